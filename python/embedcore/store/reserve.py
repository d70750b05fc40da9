"""Refuses writes before disk or memory run out: what is left then is for deletes, checkpoints and reads.

A write is checked in its caller's thread, before it joins the writers: one statvfs, and a look at free memory
that is at most ``_MEMORY_AGE_S`` old. Deletes, repairs' bookkeeping and the controller's documents are never
refused: they are small, and what gets an operator out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from embedcore.errors import InvalidArgument, ResourceExhausted
from embedcore.resources import ResourceProbe, size_text
from embedcore.store.interface import ItemWrite
from embedcore.store.writes import CheckedVectors
from embedcore.types import Vectors

_MIB: Final = 1 << 20
# A row is written to the write-ahead log and then to the file, whole pages each time.
_DISK_FACTOR: Final = 3
# Beside the text and the vectors: rows, indexes, log entries; links and codes in the indexes.
_ITEM_DISK: Final = 1024
_ITEM_MEMORY: Final = 512
_MEMORY_AGE_S: Final = 0.25  # of the machine


@dataclass(frozen=True, slots=True)
class ReserveSettings:
    """Bytes that writes leave free; 0: none, a write then runs into whatever the system says."""

    disk: int = 256 * _MIB
    memory: int = 256 * _MIB

    def __post_init__(self) -> None:
        for name in ("disk", "memory"):
            if getattr(self, name) < 0:
                raise InvalidArgument(
                    f"the reserve of {name} must be 0 bytes or more, got {getattr(self, name)}"
                )


class Reserve:
    """Thread-safe: the only state is one remembered reading, replaced as a whole."""

    def __init__(self, settings: ReserveSettings, probe: ResourceProbe) -> None:
        self.settings = settings
        self._probe = probe
        self._memory: tuple[float, int] | None = None  # when it was read, what was free

    def check_items(self, items: Sequence[ItemWrite], vectors: CheckedVectors) -> None:
        """ResourceExhausted when these upserts would reach into the reserve."""
        texts = sum(len(item.content) for item in items if item.content is not None)
        data = sum(len(data) for rows in vectors.values() for data, _ in rows.values())
        self._check(
            f"write of {len(items)} items",
            disk=_DISK_FACTOR * (texts + data + _ITEM_DISK * len(items)),
            memory=data + _ITEM_MEMORY * len(items),
        )

    def check_vectors(self, rows: Vectors) -> None:
        """The same for late vectors."""
        self._check(
            f"write of {len(rows)} vectors",
            disk=_DISK_FACTOR * (rows.nbytes + _ITEM_DISK * len(rows)),
            memory=rows.nbytes + _ITEM_MEMORY * len(rows),
        )

    def stats(self) -> dict[str, int | None]:
        """Bytes: reserved, and free now (None: cannot be told)."""
        return {
            "reserve_disk": self.settings.disk,
            "reserve_memory": self.settings.memory,
            "free_disk": self._free_disk(),
            "free_memory": self._free_memory(),
        }

    def _check(self, what: str, *, disk: int, memory: int) -> None:
        if self.settings.disk:
            _refuse_over(what, "disk", self._free_disk(), disk, self.settings.disk)
        if self.settings.memory:
            _refuse_over(what, "memory", self._free_memory(), memory, self.settings.memory)

    def _free_disk(self) -> int | None:
        try:
            return self._probe.free_disk()
        except OSError:
            return None

    def _free_memory(self) -> int | None:
        now = time.monotonic()
        known = self._memory
        if known is None or now - known[0] > _MEMORY_AGE_S:
            try:
                known = (now, self._probe.free_memory())
            except OSError:
                return None
            self._memory = known
        return known[1]


def _refuse_over(what: str, name: str, free: int | None, needed: int, reserve: int) -> None:
    # What cannot be told is no reason to refuse: the database still says when the disk is full.
    if free is None or free - needed >= reserve:
        return
    raise ResourceExhausted(
        f"{what} refused, nothing was written: {size_text(free)} of {name} free, {size_text(needed)} needed"
        f" and {size_text(reserve)} kept in reserve: free some {name}, or lower --reserve-{name}; deletes"
        " and reads still work",
        {"resource": name, "free": free, "needed": needed, "reserve": reserve},
    )
