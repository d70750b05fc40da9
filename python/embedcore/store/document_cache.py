"""Documents that change seldom and are read all the time: with every write, and several times with every tick
of the migration controller. Parsing them anew takes longer than the rest of such a read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class DocumentCache:
    """What was read, until a commit changes any of it. Thread-safe.

    :meth:`forget` is the commit's hook: once a writer has returned, nothing from before is answered any more.
    What is answered is shared and must not be changed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._known: dict[Hashable, Any] = {}

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        with self._lock:
            version = self._version
            if key in self._known:
                known: T = self._known[key]
                return known
        found = read()
        with self._lock:
            if version == self._version:  # else it may be of a snapshot from before the change
                self._known[key] = found
        return found

    def forget(self) -> None:
        with self._lock:
            self._version += 1
            self._known = {}
