"""Memory and disk that a target generation is estimated to need, against what is free."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from embedcore.migration_types import GateResult

# Per item beside its float32 vector, in bytes: 2 M links of level 0 at M = 16, the mean of the upper
# levels, id maps and slot state in the index; row, key and index pages in the store.
INDEX_OVERHEAD = 2 * 16 * 4 + 48
STORE_OVERHEAD = 160
# Items that arrive in the window, allocator slack, and the write-ahead log.
HEADROOM = 1.25
# The newest two snapshots are kept, and a third exists while it is written.
SNAPSHOTS = 3


class ResourceProbe(Protocol):
    def free_memory(self) -> int:
        """Bytes that can be allocated without swapping."""

    def free_disk(self) -> int:
        """Bytes free where the data directory lies."""


class SystemProbe:
    """This machine: /proc/meminfo and the control group's limit where there are such, else sysconf."""

    def __init__(self, data_dir: Path | None = None) -> None:
        self._data_dir = data_dir or Path()

    def free_memory(self) -> int:
        free = self._available()
        limit, used = self._group("memory.max"), self._group("memory.current")
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used))
        return free

    def free_disk(self) -> int:
        return shutil.disk_usage(self._data_dir).free

    @staticmethod
    def _available() -> int:
        try:
            with open("/proc/meminfo", encoding="ascii") as lines:
                for line in lines:
                    if line.startswith("MemAvailable:"):
                        return int(line.split()[1]) * 1024
        except OSError:
            pass
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    @staticmethod
    def _group(name: str) -> int | None:
        try:
            return int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no control groups v2, or "max"
            return None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes a generation of ``items`` vectors of ``dimension`` float32 will take."""

    items: int
    dimension: int
    memory: int
    disk: int


def estimate(items: int, dimension: int) -> Estimate:
    vector = dimension * 4
    memory = int(items * (vector + INDEX_OVERHEAD) * HEADROOM)
    disk = int(items * (vector + STORE_OVERHEAD) * HEADROOM) + SNAPSHOTS * memory
    return Estimate(items, dimension, memory, disk)


def resource_gates(need: Estimate, probe: ResourceProbe, at: float) -> list[GateResult]:
    """``memory`` and ``disk``: not met when less is free than needed, or when it cannot be told."""
    return [
        _gate("memory", need.memory, probe.free_memory, need, at),
        _gate("disk", need.disk, probe.free_disk, need, at),
    ]


def _gate(name: str, needed: int, probe: Callable[[], int], need: Estimate, at: float) -> GateResult:
    evidence = {"needed": needed, **asdict(need)}
    try:
        free = probe()
    except OSError as error:
        return GateResult(
            gate=name, passed=False, summary=f"{name}: no evidence: {error}", evidence=evidence, at=at
        )
    passed = free >= needed
    summary = f"{name}: {_size(free)} free, about {_size(needed)} needed for {need.items} items"
    return GateResult(gate=name, passed=passed, summary=summary, evidence={**evidence, "free": free}, at=at)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
