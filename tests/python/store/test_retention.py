"""Holds, and what is pruned behind them: the log, tombstones; who comes too late is told so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from embedcore.errors import InvalidArgument, NotFound
from embedcore.store import SqlStore, retention
from embedcore.store.interface import Hold, LogPruned, Pruned
from embedcore.store.retention import backfill_hold, lane_hold
from store.builders import apply, follow, generation, item_number, raw, write


def entries(store: SqlStore, shard: int = 0) -> list[int]:
    """Sequence numbers that are in the log."""
    with store.database.read() as connection:
        query = f"SELECT sequence FROM log WHERE shard = {shard} ORDER BY sequence"
        return list(connection.exec_driver_sql(query).scalars())


def test_nothing_is_pruned_that_a_live_generation_has_not_spoken_for(store: SqlStore) -> None:
    generation(store)
    store.write_items([write(str(number), {1: 1.0}) for number in range(5)])
    store.delete_items(["1"])
    assert store.prune() == Pruned(0, 0)
    assert entries(store) == [1, 2, 3, 4, 5, 6]
    assert store.holds() == [Hold("lane/g1", 0, 0, True, 1)]
    store.hold(lane_hold(1), 0, 3, generation=1)
    assert (entries(store), store.pruned(0)) == ([4, 5, 6], 3)
    assert store.verify() == []


def test_the_slowest_decides(store: SqlStore) -> None:
    generation(store)
    generation(store, "new", "filling")
    store.write_items([write(str(number), {1: 1.0, 2: 1.0}) for number in range(8)])
    store.hold("follower/east", 0, 2)
    store.hold(lane_hold(1), 0, 8, generation=1)
    store.hold(lane_hold(2), 0, 5, generation=2)
    assert store.pruned(0) == 2
    store.hold("follower/east", 0, 7)
    assert store.pruned(0) == 5
    store.release("follower/east")
    store.release("nobody")
    assert store.prune() == Pruned(0, 0)
    store.hold(lane_hold(2), 0, 6, generation=2)
    assert store.pruned(0) == 6
    assert store.verify() == []


def test_who_comes_too_late_must_rebuild(store: SqlStore) -> None:
    generation(store)
    store.write_items([write(str(number), {1: float(number)}) for number in range(6)])
    store.delete_items(["0"])
    store.hold(lane_hold(1), 0, 4, generation=1)
    for after in range(4):
        with pytest.raises(LogPruned, match=r"pruned up to 4.*rebuild") as caught:
            store.read_lane(1, 0, after, 10)
        assert "\n" not in str(caught.value)
    batch = store.read_lane(1, 0, 4, 10)
    assert batch is not None
    assert batch.upto == 7
    with pytest.raises(LogPruned, match="hold from there"):
        store.hold("late", 0, 3)
    store.hold("tombstones", 0, 3, log=False)  # needs no log
    # A rebuild needs nothing of what is gone.
    items, rows = store.scan_vectors(1, 0, -1, 100)
    index = dict(zip(items.tolist(), rows[:, 0].tolist(), strict=True))
    follow(store, 1, 0, index, after=4)
    assert sorted(index.values()) == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_generation_that_came_after_the_pruned_part_needs_nothing_of_it(store: SqlStore) -> None:
    generation(store)
    store.write_items([write(str(number), {1: 1.0}) for number in range(4)])
    store.hold(lane_hold(1), 0, 4, generation=1)
    generation(store, "new", "filling")
    store.write_items([write("young", {1: 1.0, 2: 2.0})])
    index: dict[int, float] = {}
    assert follow(store, 2, 0, index) == 5
    assert list(index.values()) == [2.0]
    with pytest.raises(LogPruned):
        store.read_lane(1, 0, 0, 10)


def test_a_tombstone_lives_until_lanes_and_backfills_have_passed_it(store: SqlStore) -> None:
    generation(store)
    generation(store, "new", "filling")
    store.write_items([write(name, {1: 1.0}, content=name) for name in "abc"])
    store.delete_items(["b"])  # entry 4
    head = store.head(0)
    store.hold(lane_hold(1), 0, head, generation=1)
    store.hold(lane_hold(2), 0, head, generation=2)
    # The backfill's hold keeps it, and the log need not wait for that.
    assert (entries(store), store.pruned(0)) == ([], head)
    assert store.get_item("b") is not None
    store.hold(backfill_hold(2), 0, head - 1, log=False, generation=2)
    assert store.get_item("b") is not None
    number = item_number(store, "b")
    checksum = store.check_shard(0).stored
    store.hold(backfill_hold(2), 0, head, log=False, generation=2)
    assert store.get_item("b") is None
    assert store.get_items([number]) == []
    assert store.check_shard(0).stored != checksum
    assert store.verify() == []
    assert store.live_items() == 2


def test_a_late_vector_of_a_pruned_item_is_void_for_ever(store: SqlStore) -> None:
    """The item that was read before its delete, whose tombstone has gone, whose id has come back."""
    generation(store)
    store.write_items([write("a", {1: 1.0}), write("b", {1: 2.0})])
    old = item_number(store, "b")
    store.write_items([write("b", {1: 3.0})])
    store.delete_items(["b"])
    store.hold(lane_hold(1), 0, store.head(0), generation=1)
    assert store.get_item("b") is None
    vector = np.full(4, 9.0, dtype=np.float32)
    assert store.write_vectors(1, [(old, 1, vector), (old, 2, vector), (old, 3, vector)]) == (0, 3)
    assert store.write_items([write("b", {1: 4.0})]).versions == (4,)  # an id's versions never go back
    fresh = item_number(store, "b")
    assert fresh > old  # a number is given out once
    for version in (1, 2, 3):
        assert store.write_vectors(1, [(old, version, vector), (fresh, version, vector)]) == (0, 2)
    _, rows = store.stored_vectors(1, np.array([fresh]))
    assert rows[0, 0] == 4.0
    assert store.verify() == []


def test_numbers_and_versions_go_on_after_a_restart(open_at: Callable[..., SqlStore]) -> None:
    store = open_at(shards=2)
    generation(store)
    store.write_items([write(str(number), {1: 1.0}) for number in range(6)])
    gone = [item_number(store, str(number)) for number in range(6)]
    store.delete_items([str(number) for number in range(6)])
    for shard in range(2):
        store.hold(lane_hold(1), shard, store.head(shard), generation=1)
    assert store.get_items(gone) == []
    store.close()
    store = open_at()
    receipt = store.write_items([write(str(number), {1: 1.0}) for number in range(6)])
    assert receipt.versions == (3,) * 6
    assert min(item_number(store, str(number)) for number in range(6)) > max(gone)
    assert store.verify() == []


def test_holds_end_with_their_generation(store: SqlStore) -> None:
    generation(store)
    filling = generation(store, "new", "filling")
    assert {hold.name for hold in store.holds()} == {"lane/g1", "lane/g2", "backfill/g2"}
    store.put_generation(filling.model_copy(update={"state": "serving"}))
    assert {hold.name for hold in store.holds()} == {"lane/g1", "lane/g2"}
    store.hold("backup/1", 0, 0)
    store.put_generation(filling.model_copy(update={"state": "retired"}))
    assert {hold.name for hold in store.holds()} == {"lane/g1", "backup/1"}
    generation(store, "third", "retired")
    assert {hold.name for hold in store.holds()} == {"lane/g1", "backup/1"}
    assert store.verify() == []


def test_pruning_goes_in_steps_and_writers_get_in_between(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 10)
    generation(store)
    store.write_items([write(str(number), {1: 1.0}) for number in range(35)])
    store.delete_items([str(number) for number in range(35)])
    steps: list[int] = []
    original = store.database.write

    def counted(work: Callable[..., object], weight: int = 1) -> object:
        steps.append(len(entries(store)))
        return original(work, weight)

    monkeypatch.setattr(store.database, "write", counted)
    store.hold(lane_hold(1), 0, 70, generation=1)
    assert steps[1:8] == [70, 60, 50, 40, 30, 20, 10]
    assert entries(store) == []
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM items").scalar() == 0
    assert store.verify() == []


def test_bad_holds_are_refused(store: SqlStore) -> None:
    generation(store)
    store.write_items([write("a", {1: 1.0})])
    for sequence in (-1, 2):
        with pytest.raises(InvalidArgument, match="sequence 0 to 1"):
            store.hold("x", 0, sequence)
    with pytest.raises(InvalidArgument, match="name of a hold"):
        store.hold("", 0, 0)
    with pytest.raises(NotFound, match="shard 1"):
        store.hold("x", 1, 0)
    with pytest.raises(NotFound, match="generation 9"):
        store.hold("x", 0, 0, generation=9)
    assert [hold.name for hold in store.holds()] == ["lane/g1"]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM holds", "no hold lane/g1"),
        ("UPDATE shards SET pruned = 3", "holds the log from 2"),
        ("UPDATE shards SET pruned = 1", "log has 3 entries from 3 to 5"),
        ("DELETE FROM log WHERE sequence = 3", "log has 2 entries"),
        ("DELETE FROM log WHERE sequence = 4", "log has 2 entries"),
        ("DELETE FROM items WHERE id = 'b'", "names item 2, which is gone"),
    ],
)
def test_verify_fires_on_what_was_pruned_too_early(store: SqlStore, statement: str, says: str) -> None:
    generation(store)
    store.write_items([write(name, {1: 1.0}) for name in "abcd"])
    store.delete_items(["b"])
    store.hold(lane_hold(1), 0, 2, generation=1)
    assert (entries(store), store.verify()) == ([3, 4, 5], [])
    assert raw(store, statement) == 1
    assert any(says in problem for problem in store.verify()), store.verify()


def test_a_lane_that_reads_while_the_log_is_pruned_misses_nothing(store: SqlStore) -> None:
    """The lane's hold follows what it has applied: what it still needs is there whenever it reads."""
    generation(store)
    index: dict[int, float] = {}
    applied = 0
    for step in range(40):
        store.write_items([write(f"i{step % 7}", {1: float(step)})])
        if step % 5 == 4:
            store.delete_items([f"i{(step + 3) % 7}"])
        if step % 3 == 0:
            batch = store.read_lane(1, 0, applied, 2)
            if batch is not None:
                apply(index, batch)
                applied = batch.upto
                store.hold(lane_hold(1), 0, applied, generation=1)
    follow(store, 1, 0, index, applied)
    items, rows = store.scan_vectors(1, 0, -1, 100)
    assert index == dict(zip(items.tolist(), rows[:, 0].tolist(), strict=True))
    assert store.pruned(0) == applied
    assert store.verify() == []
