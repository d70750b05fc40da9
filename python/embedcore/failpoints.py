"""Points at which a test ends the process as a crash would: ``EMBEDCORE_FAILPOINT=name``, or ``name:n`` for
the n-th time it is passed. The native core has the same, with the same variable (``cpp/common/failpoint.h``).
"""

from __future__ import annotations

import os
import signal
import threading
from functools import cache
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


@cache
def _armed() -> _Armed | None:
    """Read when the first point is passed, and once for all."""
    given = os.environ.get(VARIABLE)
    return _Armed(given) if given else None


def failpoint(name: str) -> None:
    """Does nothing, or kills the process with SIGKILL. Thread-safe."""
    point = _armed()
    if point is None or point.name != name:
        return
    with point.lock:
        point.left -= 1
        if point.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
