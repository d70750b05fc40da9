"""What goes on beside serving for the sake of the next start: snapshots from time to time, and a watch over
indexes that were mapped and are still being verified.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from embedcore.errors import CorruptSnapshotError, FailedPrecondition, ResourceExhausted
from embedcore.index import Index

_logger = logging.getLogger(__name__)


class Keeper:
    """Thread-safe. Its threads end by themselves after :meth:`stop`."""

    def __init__(self, interval_s: float, save: Callable[[], object]) -> None:
        """``save`` every ``interval_s`` seconds of the machine, from :meth:`start` on; 0: never."""
        self._interval_s = interval_s
        self._save = save
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._workers: list[threading.Thread] = []

    def start(self) -> None:
        if self._interval_s > 0:
            self._run("snapshots", self._save_from_time_to_time)

    def watch(self, name: str, index: Index, damaged: Callable[[str], None]) -> None:
        """Calls ``damaged`` with what was found, on a thread of its own, when the index is not as it was
        written. An index that is verified needs no watch."""
        if not index.verified:
            self._run(f"verify-{name}", self._watch, index, damaged)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        """No new work; what is under way goes on to its end."""
        self._stopping.set()

    def join(self) -> None:
        """After :meth:`stop`: waits for its threads."""
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.join()

    def save_or_log(self, then: str) -> None:
        """Snapshots are a cache: where one cannot be taken, ``then`` is what happens next."""
        try:
            self._save()
        except (ResourceExhausted, OSError, FailedPrecondition) as error:
            _logger.warning("a snapshot could not be taken (%s); %s", error, then)

    def _save_from_time_to_time(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self.save_or_log("trying again later")  # a full disk may have room later

    def _watch(self, index: Index, damaged: Callable[[str], None]) -> None:
        try:
            index.wait_verified()
        except CorruptSnapshotError as error:
            damaged(str(error))

    def _run(self, name: str, target: Callable[..., None], *args: Any) -> None:
        worker = threading.Thread(target=target, args=args, name=name, daemon=True)
        with self._lock:
            self._workers = [one for one in self._workers if one.is_alive()]
            self._workers.append(worker)
            worker.start()
