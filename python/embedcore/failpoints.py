"""Points at which a test ends the process as a crash would: ``EMBEDCORE_FAILPOINT=name``, or ``name:n`` for
the n-th time it is passed. The native core has the same, with the same variable (``cpp/common/failpoint.h``).
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

VARIABLE: Final = "EMBEDCORE_FAILPOINT"

# Every name, native ones included: crash loops draw from it, and a test holds the list to the sources.
NAMES: Final = (
    "snapshot-mid-write",
    "snapshot-before-sync",
    "snapshot-before-rename",
    "snapshot-after-rename",
    "store-before-commit",
    "store-after-commit",
    "lane-mid-step",
    "lane-after-apply",
    "recovery-after-load",
    "recovery-mid-replay",
)


class _Armed:
    def __init__(self, given: str) -> None:
        name, _, count = given.partition(":")
        self.name = name
        self.left = int(count or 1)
        self.lock = threading.Lock()


_given = os.environ.get(VARIABLE)
_armed = _Armed(_given) if _given else None


def failpoint(name: str) -> None:
    """Does nothing, or kills the process with SIGKILL. Thread-safe."""
    if _armed is None or _armed.name != name:
        return
    with _armed.lock:
        _armed.left -= 1
        if _armed.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
