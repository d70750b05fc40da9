"""Keeping background work out of the way of queries that share the process with it.

Thread priorities are deliberately not used: a thread of low priority that holds the interpreter lock while
the machine is busy holds up every query (a priority inversion). The backfill has a rate limit instead.
"""

from __future__ import annotations

import os
import sys
from typing import Final

# A query handler takes the interpreter lock several times; each time it waits for the thread that holds it,
# at Python's default up to 5 ms beside a busy backfill or evaluation.
SWITCH_INTERVAL_S: Final = 2e-4


def favour_short_work() -> None:
    """Makes busy threads of this process give the interpreter lock up sooner. For a server's process."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def background_threads() -> int:
    """Threads for evaluations beside live queries: half the cores."""
    return max(1, (os.cpu_count() or 1) // 2)
