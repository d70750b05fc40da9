"""What lanes read: states by the log, convergence of replays, rebuild scans, damaged vectors."""

from __future__ import annotations

import numpy as np
import pytest

from embedcore.store import SqlStore
from store.builders import apply, follow, generation, item_number, raw, vector, write


def test_a_lane_sees_the_state_of_what_the_log_names(store: SqlStore) -> None:
    generation(store)
    store.write_items([write("a", {1: 1.0}), write("b", {1: 2.0})])
    store.write_items([write("a", {1: 3.0})])
    store.delete_items(["b"])
    batch = store.read_lane(1, 0, after=0, limit=100)
    assert batch is not None
    assert batch.upto == 4
    assert batch.removed.tolist() == [item_number(store, "b")]
    assert batch.ids.tolist() == [item_number(store, "a")]
    assert batch.vectors.dtype == np.float32
    np.testing.assert_array_equal(batch.vectors, [vector(3.0)])
    assert store.read_lane(1, 0, after=4, limit=100) is None


def test_the_limit_counts_log_entries(store: SqlStore) -> None:
    generation(store)
    store.write_items([write(str(number), {1: 1.0}) for number in range(5)])
    batch = store.read_lane(1, 0, after=1, limit=2)
    assert batch is not None
    assert (batch.upto, len(batch.ids)) == (3, 2)


def test_vectors_of_other_generations_are_passed_over(store: SqlStore) -> None:
    generation(store)
    generation(store, "new", "filling")
    store.write_items([write("a", {1: 1.0})])
    number = item_number(store, "a")
    for _ in range(5):
        store.write_vectors(2, [(number, 1, vector(1.0))])
    batch = store.read_lane(1, 0, after=1, limit=1)
    assert batch is not None
    assert (batch.upto, len(batch.ids), len(batch.removed)) == (6, 0, 0)
    target = store.read_lane(2, 0, after=1, limit=3)
    assert target is not None
    assert (target.upto, target.ids.tolist()) == (4, [number])


def test_an_item_that_waits_for_repair_is_left_as_it_is(store: SqlStore) -> None:
    generation(store)
    store.write_items([write("a", {1: 1.0})])
    index: dict[int, float] = {}
    at = follow(store, 1, 0, index)
    store.write_items([write("a", failures={1: "down"}), write("b", failures={1: "down"})])
    batch = store.read_lane(1, 0, at, 100)
    assert batch is not None
    assert (len(batch.ids), len(batch.removed)) == (0, 0)
    apply(index, batch)
    number = item_number(store, "a")
    assert index == {number: 1.0}
    store.write_vectors(1, [(number, 2, vector(2.0))])
    follow(store, 1, 0, index, batch.upto)
    assert index == {number: 2.0}


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_deleted_and_re_added_without_a_vector_does_not_keep_the_old_one(store: SqlStore, limit: int) -> None:
    generation(store)
    store.write_items([write("a", {1: 1.0})])
    index: dict[int, float] = {}
    at = follow(store, 1, 0, index)
    store.delete_items(["a"])
    store.write_items([write("a", failures={1: "down"})])
    follow(store, 1, 0, index, at, limit)
    assert index == {}


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_batch_that_ends_without_a_vector_still_brings_the_last_one(store: SqlStore, limit: int) -> None:
    """However the log is cut into batches, an index ends with the row that the store holds."""
    generation(store)
    store.write_items([write("a", {1: 1.0})])
    index: dict[int, float] = {}
    at = follow(store, 1, 0, index)
    store.write_items([write("a", {1: 2.0})])
    store.write_items([write("a", failures={1: "down"})])
    follow(store, 1, 0, index, at, limit)
    assert list(index.values()) == [2.0]


def test_replaying_any_part_of_the_log_late_converges(store: SqlStore) -> None:
    generation(store)
    rng = np.random.default_rng(3)
    for _ in range(60):
        name = f"i{rng.integers(6)}"
        if rng.random() < 0.3:
            store.delete_items([name])
        else:
            store.write_items([write(name, {1: float(rng.integers(100))} if rng.random() < 0.8 else {})])
    index: dict[int, float] = {}
    head = follow(store, 1, 0, index)
    for start in (0, 7, head // 2, head - 1):
        replayed = dict(index)
        follow(store, 1, 0, replayed, after=start, limit=5)
        assert replayed == index
    scanned: dict[int, float] = {}
    items, rows = store.scan_vectors(1, 0, -1, 100)
    scanned.update(zip(items.tolist(), rows[:, 0].tolist(), strict=True))
    assert scanned == index


def test_scan_goes_through_a_shard_in_pages(open_at: object) -> None:
    store: SqlStore = open_at(shards=2)  # type: ignore[operator]
    generation(store)
    store.write_items([write(str(number), {1: float(number)}) for number in range(50)])
    seen: list[int] = []
    for shard in (0, 1):
        after = -1
        while True:
            items, rows = store.scan_vectors(1, shard, after, 7)
            assert rows.shape == (len(items), 4)
            if not len(items):
                break
            assert (np.diff(items) > 0).all()
            after = int(items[-1])
            seen += items.tolist()
            assert {stored.shard for stored in store.get_items(items.tolist())} == {shard}
    assert sorted(seen) == sorted(store.sample_items(1000, 0).tolist())


@pytest.mark.parametrize("damage", ["zeroblob(16)", "zeroblob(3)"])
def test_a_damaged_vector_is_never_served_and_waits_for_repair(
    store: SqlStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    generation(store)
    store.write_items([write("a", {1: 1.0}), write("b", {1: 2.0})])
    a = item_number(store, "a")
    assert raw(store, f"UPDATE vectors SET data = {damage} WHERE item = ?", a) == 1
    assert store.verify() == [f"generation 1, item {a}: vector fails its checksum or length"]
    batch = store.read_lane(1, 0, 0, 100)
    assert batch is not None
    assert batch.ids.tolist() == [item_number(store, "b")]
    assert [(entry.item, entry.version) for entry in store.repairs(1, 9)] == [(a, 1)]
    assert "damaged" in caplog.text
    assert store.verify() == []
    store.write_vectors(1, [(a, 1, vector(1.0))])
    assert store.repair_count() == 0


def test_a_scan_does_not_end_at_damaged_rows(store: SqlStore) -> None:
    generation(store)
    store.write_items([write(name, {1: 1.0}) for name in "abcd"])
    raw(store, "UPDATE vectors SET checksum = checksum + 1 WHERE item <= ?", item_number(store, "c"))
    items, _ = store.scan_vectors(1, 0, -1, 2)
    assert items.tolist() == [item_number(store, "d")]
    assert store.repair_count(1) == 3
