"""Memory and disk that a target generation is estimated to need, against what is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from embedcore.migration_types import GateResult
from embedcore.resources import ResourceProbe, size_text

# Per item beside its float32 vector, in bytes: 2 M links of level 0 at M = 16, the mean of the upper
# levels, id maps and slot state in the index; row, key and index pages in the store.
INDEX_OVERHEAD = 2 * 16 * 4 + 48
STORE_OVERHEAD = 160
# Items that arrive in the window, allocator slack, and the write-ahead log.
HEADROOM = 1.25
# The newest two snapshots are kept, and a third exists while it is written.
SNAPSHOTS = 3


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
    summary = f"{name}: {size_text(free)} free, about {size_text(needed)} needed for {need.items} items"
    return GateResult(gate=name, passed=passed, summary=summary, evidence={**evidence, "free": free}, at=at)
