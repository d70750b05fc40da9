"""Writes are refused before disk or memory run out; deletes and reads go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedcore.clock import ManualClock
from embedcore.errors import InvalidArgument, ResourceExhausted
from embedcore.resources import SystemProbe
from embedcore.store import SqlStore, reserve
from embedcore.store.reserve import Reserve, ReserveSettings
from store.builders import generation, item_number, vector, write

MIB = 1 << 20


class Probe:
    def __init__(self) -> None:
        self.disk = self.memory = 1 << 40
        self.memory_reads = 0

    def free_disk(self) -> int:
        if self.disk < 0:
            raise OSError("no such device")
        return self.disk

    def free_memory(self) -> int:
        self.memory_reads += 1
        if self.memory < 0:
            raise OSError("no /proc")
        return self.memory


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def guarded(open_at: Callable[..., SqlStore], probe: Probe, monkeypatch: pytest.MonkeyPatch) -> SqlStore:
    monkeypatch.setattr(reserve, "_MEMORY_AGE_S", -1.0)  # read anew every time
    store = open_at(reserve=ReserveSettings(disk=64 * MIB, memory=32 * MIB), probe=probe)
    generation(store)
    store.write_items([write("a", {1: 1.0}), write("queued", content="x")])
    return store


@pytest.mark.parametrize(("name", "kept"), [("disk", 64 * MIB), ("memory", 32 * MIB)])
def test_a_write_into_the_reserve_is_refused_and_nothing_changed(
    guarded: SqlStore, probe: Probe, name: str, kept: int
) -> None:
    setattr(probe, name, kept + 100)  # more than the reserve, but not by what the write needs
    with pytest.raises(ResourceExhausted, match=f"kept in reserve: free some {name}") as caught:
        guarded.write_items([write("b", {1: 2.0})])
    assert "\n" not in str(caught.value)
    assert caught.value.details["resource"] == name
    assert caught.value.details["free"] == kept + 100
    assert (guarded.head(0), guarded.live_items()) == (2, 2)
    with pytest.raises(ResourceExhausted, match="write of 1 vectors"):
        guarded.write_vectors(1, [(item_number(guarded, "queued"), 1, vector(3.0))])
    assert guarded.repair_count() == 1
    # What gets an operator out still works, and so does every read.
    guarded.put_checkpoint("backfill", 1, 0, {})
    assert guarded.delete_items(["queued"]).versions == (2,)
    assert guarded.get_item("a") is not None
    assert guarded.read_lane(1, 0, 0, 10) is not None
    setattr(probe, name, kept + 2 * MIB)
    guarded.write_items([write("b", {1: 2.0})])
    assert guarded.live_items() == 2
    assert guarded.verify() == []


def test_a_larger_write_needs_more_room(guarded: SqlStore, probe: Probe) -> None:
    probe.disk = 64 * MIB + 100_000
    guarded.write_items([write("small", {1: 1.0})])
    with pytest.raises(ResourceExhausted, match="disk"):
        guarded.write_items([write("large", {1: 1.0}, content="x" * 100_000)])
    with pytest.raises(ResourceExhausted, match="write of 200 items"):
        guarded.write_items([write(str(number), {1: 1.0}) for number in range(200)])


def test_what_cannot_be_told_is_no_reason_to_refuse(guarded: SqlStore, probe: Probe) -> None:
    probe.disk = probe.memory = -1
    guarded.write_items([write("b", {1: 1.0})])
    assert guarded.stats()["free_disk"] is None
    assert guarded.stats()["free_memory"] is None


def test_no_reserve_asks_nobody(open_at: Callable[..., SqlStore], probe: Probe) -> None:
    probe.disk = probe.memory = 0
    store = open_at(reserve=ReserveSettings(disk=0, memory=0), probe=probe)
    store.write_items([write("a")])
    assert probe.memory_reads == 0


def test_free_memory_is_not_read_for_every_write(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(reserve.time, "monotonic", lambda: now[0])
    guard = Reserve(ReserveSettings(disk=0, memory=MIB), probe)
    rows = np.zeros((1, 4), dtype=np.float32)
    for _ in range(5):
        guard.check_vectors(rows)
    assert probe.memory_reads == 1
    probe.memory = 0
    now[0] += 1.0
    with pytest.raises(ResourceExhausted, match="0 B of memory free"):
        guard.check_vectors(rows)
    assert probe.memory_reads == 2


def test_bad_settings_are_refused(open_at: Callable[..., SqlStore], clock: ManualClock) -> None:
    with pytest.raises(InvalidArgument, match="reserve of disk"):
        ReserveSettings(disk=-1)
    with pytest.raises(InvalidArgument, match="durability must be one of fsync, os"):
        open_at(durability="never")
    open_at().close()  # nothing was taken


def test_the_settings_and_what_is_free_can_be_seen(open_at: Callable[..., SqlStore], probe: Probe) -> None:
    store = open_at(durability="os", reserve=ReserveSettings(disk=5, memory=6), probe=probe)
    generation(store)
    stats = store.stats()
    assert (stats["durability"], stats["reserve_disk"], stats["reserve_memory"]) == ("os", 5, 6)
    assert stats["free_disk"] == 1 << 40
    assert stats["shards"] == [{"shard": 0, "head": 0, "pruned": 0, "holds": {"lane/g1": 0}}]


@pytest.mark.parametrize(
    ("limit", "used", "stat", "expected"),
    [
        ("1000", "900", "anon 300\nactive_file 200\ninactive_file 400\n", 700),
        ("1000", "900", "anon 900\n", 100),
        ("1000", "1200", "anon 1200\n", 0),
        ("1000", "900", None, 100),
    ],
)
def test_pages_of_files_are_no_memory_in_use(
    tmp_path: Path, limit: str, used: str, stat: str | None, expected: int
) -> None:
    """Or whoever writes much would be refused for what the kernel keeps of its own writes."""
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    if stat is not None:
        (tmp_path / "memory.stat").write_text(stat)
    assert SystemProbe(tmp_path, tmp_path).free_memory() == expected
    (tmp_path / "memory.max").write_text("max\n")
    assert SystemProbe(tmp_path, tmp_path).free_memory() > 1000
