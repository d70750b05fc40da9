"""The state of an index, and its upkeep in place."""

from __future__ import annotations

from typing import Any

from embedcore import _native
from embedcore.errors import InvalidArgument
from embedcore.index_input import number, whole
from embedcore.index_results import Report


class IndexUpkeep:
    """A part of :class:`embedcore.Index`; threads and errors as there."""

    _native: _native.Index

    @property
    def tombstones(self) -> int:
        """Removed or replaced items whose slots compact has not freed yet."""
        return self._native.tombstones

    @property
    def tombstone_rate(self) -> float:
        """Tombstones / (live + tombstones), 0 for an empty index."""
        dead = self.tombstones
        return dead / (len(self._native) + dead) if dead else 0.0

    @property
    def memory_bytes(self) -> int:
        """Resident bytes of everything the index holds, search buffers included."""
        return self._native.memory_bytes

    def stats(self) -> dict[str, Any]:
        """What the index holds and costs, as a plain dict. Writers wait meanwhile.

        Live items and tombstones; whether all that was loaded is verified; codes (kind, items they were
        trained on, 0 for not yet, step and error of the grid); slots; memory by component in bytes
        ("links_and_codes" holds the vectors themselves where there are no codes); live nodes per level;
        degrees on the lowest level; counters since the index was made or loaded.
        """
        return self._native.stats()

    # In small steps beside searches, which never wait for it, and writes, which do for well below a
    # millisecond at a time. What one call leaves undone the next one goes on with, whichever of the three it
    # is. Any number of threads may call them at once; they share the work.

    def repair(self, budget: float | None = None, threads: int = 1) -> Report:
        """Reconnects live items around tombstones, so that no search passes through one. Online.

        Ends after ``budget`` seconds (0: after one small step), or when there is nothing left to do (None);
        ``threads=0`` means all cores. Raises ValueError for a budget that is negative or no number.
        """
        return Report(**self._native.repair(_seconds(budget), whole(threads, "threads", 0, 65535)))

    def compact(self, budget: float | None = None, threads: int = 1) -> Report:
        """Repairs, then frees the tombstones' slots for reuse.

        Online; ``budget`` and ``threads`` as in repair.
        """
        return Report(**self._native.compact(_seconds(budget), whole(threads, "threads", 0, 65535)))

    def relocate(self, budget: float | None = None, threads: int = 1) -> Report:
        """Moves items from the tail into free slots and returns the tail's memory to the system.

        Online; ``budget`` and ``threads`` as in repair.
        """
        return Report(**self._native.relocate(_seconds(budget), whole(threads, "threads", 0, 65535)))

    def check(self) -> list[str]:
        """All broken invariants, one line each; empty is good. Searches go on, writers wait."""
        return self._native.check()


def _seconds(budget: float | None) -> float | None:
    if budget is None:
        return None
    seconds = number(budget, "budget")
    if seconds < 0:
        raise InvalidArgument(f"budget is {seconds}; give seconds, 0 or more, or None for no limit")
    return seconds
