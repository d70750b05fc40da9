"""bench/ lies at the root of the checkout and is not installed. This folder is no package: it would be one
called bench too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
