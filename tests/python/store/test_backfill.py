"""Backfill order, coverage, missing items, repair queue, and the end of a generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from embedcore.clock import ManualClock
from embedcore.errors import FailedPrecondition
from embedcore.store import SqlStore
from embedcore.store.interface import BackfillCursor, BackfillItem
from store.builders import generation, item_number, vector, write


def backfill(store: SqlStore, number: int, shard: int, limit: int) -> list[BackfillItem]:
    """Reads to the end, page by page."""
    found: list[BackfillItem] = []
    cursor = None
    while page := store.read_backfill(number, shard, cursor, limit):
        found += page
        cursor = BackfillCursor(page[-1].created_at, page[-1].item)
    return found


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_backfill_goes_from_recent_to_old_and_skips_what_is_there(
    open_at: Callable[..., SqlStore], limit: int
) -> None:
    store = open_at(shards=2)
    generation(store)
    rng = np.random.default_rng(11)
    # Few distinct times, so that ties occur.
    times = {str(number): float(rng.integers(6)) for number in range(40)}
    store.write_items([write(name, {1: 1.0}, created_at=at, content=name) for name, at in times.items()])
    generation(store, "new", "filling")
    store.delete_items(["3", "4"])
    store.write_items([write("5", {1: 1.0, 2: 2.0})])
    store.write_items([write("6", {1: 1.0}, content="6")])  # written without: waits for repair, still missing
    for shard in (0, 1):
        items = [stored for stored in store.get_items(range(1, 41)) if stored.shard == shard]
        expected = sorted(
            (stored for stored in items if not stored.deleted and 2 not in stored.held),
            key=lambda stored: (-stored.created_at, -stored.item),
        )
        found = backfill(store, 2, shard, limit)
        assert [(row.item, row.id, row.version) for row in found] == [
            (stored.item, stored.id, stored.version) for stored in expected
        ]
        assert all(row.content == row.id for row in found)
    assert backfill(store, 1, 0, limit) + backfill(store, 1, 1, limit) == []


def test_backfill_reads_the_recency_index_without_sorting(store: SqlStore) -> None:
    generation(store)
    store.write_items([write(str(number), {1: 1.0}) for number in range(50)])
    statements: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(store.database._read_engine, "before_cursor_execute", note)
    store.read_backfill(1, 0, BackfillCursor(100.0, 7), 10)
    store.coverage(1, {0: 10})
    store.read_lane(1, 0, 0, 10)
    selects = [(text, values) for text, values in statements if text.startswith("SELECT")]
    with store.database.read() as connection:
        for text, values in selects:
            plan = "\n".join(
                row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
            )
            assert "SCAN items" not in plan, plan
            assert "SCAN vectors" not in plan, plan
            assert "TEMP B-TREE" not in plan, plan


def test_coverage_counts_current_vectors_that_the_lanes_have_applied(
    open_at: Callable[..., SqlStore],
) -> None:
    store = open_at(shards=2)
    generation(store)
    assert store.coverage(1, {0: 0, 1: 0}).share == 1.0
    store.write_items([write(str(number), {1: 1.0}) for number in range(20)])
    heads = {0: store.head(0), 1: store.head(1)}
    assert min(heads.values()) > 0
    assert store.coverage(1, {0: 0, 1: 0}).covered == 0
    assert store.coverage(1, {}).covered == 0
    full = store.coverage(1, heads)
    assert (full.covered, full.live) == (20, 20)
    assert store.coverage(1, {0: heads[0], 1: 0}).covered == heads[0]
    store.write_items([write("0", {1: 2.0})])  # rewritten: not applied yet
    assert store.coverage(1, heads).covered == 19
    store.write_items([write("1")])  # rewritten without a vector
    store.delete_items(["2"])
    now = {0: store.head(0), 1: store.head(1)}
    after = store.coverage(1, now)
    assert (after.covered, after.live) == (18, 19)
    store.write_vectors(1, [(item_number(store, "1"), 2, vector(1.0))])
    assert store.coverage(1, {0: store.head(0), 1: store.head(1)}).covered == 19


def test_missing_items_come_oldest_first_over_all_shards(open_at: Callable[..., SqlStore]) -> None:
    store = open_at(shards=4)
    generation(store)
    names = [str(number) for number in range(30)]
    times = np.random.default_rng(2).permutation(30)
    store.write_items([write(name, created_at=float(at)) for name, at in zip(names, times, strict=True)])
    given = names[:10]
    store.write_items([write(name, {1: 1.0}) for name in given])
    store.delete_items(names[10:12])
    expected = sorted(names[12:], key=lambda name: times[int(name)])
    assert [stored.id for stored in store.missing_items(1, 100)] == expected
    assert [stored.id for stored in store.missing_items(1, 5)] == expected[:5]


def test_repairs_come_by_priority_attempts_and_age(store: SqlStore, clock: ManualClock) -> None:
    generation(store)
    for name in ("first", "second", "third"):
        store.write_items([write(name, content=name)])
        clock.advance(10)
    store.write_items([write("fine", {1: 1.0})])
    number = {name: item_number(store, name) for name in ("first", "second", "third", "fine")}

    def order() -> list[str]:
        return [entry.id for entry in store.repairs(None, 10)]

    assert order() == ["first", "second", "third"]
    store.repair_failed(1, number["first"], "still down")
    assert order() == ["second", "third", "first"]
    last = store.repairs(1, 10)[-1]
    assert (last.attempts, last.reason, last.content) == (1, "still down", "first")
    assert store.add_repairs(1, [number["third"], number["fine"], 999], "diverged", priority=5) == 2
    assert order() == ["third", "fine", "second", "first"]
    assert store.repairs(1, 1)[0].enqueued_at == clock.now() - 10
    assert store.add_repairs(1, [number["third"]], "again", priority=1) == 1
    assert order()[0] == "third"
    store.repair_failed(1, 999, "nobody")  # repaired meanwhile: nothing to count
    store.write_vectors(1, [(number["third"], 1, vector(1.0)), (number["fine"], 1, vector(2.0))])
    assert order() == ["second", "first"]


def test_a_new_version_keeps_its_age_in_the_queue(store: SqlStore, clock: ManualClock) -> None:
    generation(store)
    store.write_items([write("a", content="v1")])
    queued = clock.now()
    store.repair_failed(1, item_number(store, "a"), "down")
    clock.advance(60)
    store.write_items([write("a", content="v2")])
    (entry,) = store.repairs(1, 9)
    assert (entry.version, entry.content, entry.attempts, entry.enqueued_at) == (2, "v2", 0, queued)


def test_dropping_a_generation_reclaims_it_and_its_space(store: SqlStore) -> None:
    width = 2000
    generation(store)
    target = generation(store, "new", "filling", dimension=width)
    names = [str(number) for number in range(600)]
    wide = vector(1.0, dimension=width)
    store.write_items([write(name, {1: 1.0}) for name in names])
    store.write_vectors(
        2, [(item, 1, wide) for item in store.items_of(names[1:]).tolist()], checkpoint=("backfill", 0, {})
    )
    with pytest.raises(FailedPrecondition, match="retire it first"):
        store.drop_generation_vectors(2)
    store.put_generation(target.model_copy(update={"state": "retired"}))
    assert store.repair_count(2) == 1
    with store.database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    assert store.drop_generation_vectors(2) == len(names) - 1
    assert store.drop_generation_vectors(2) == 0
    assert store.repair_count(2) == 0
    assert store.get_checkpoint("backfill", 2, 0) is None
    assert len(store.stored_vectors(1, store.items_of(names))[0]) == len(names)
    with store.database.read() as connection:
        left = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    # 599 vectors of 8,000 bytes were almost all of the file.
    assert left < pages / 4
    assert store.verify() == []


def test_a_retired_generation_is_no_work_and_no_damage_before_it_is_dropped(store: SqlStore) -> None:
    first = generation(store)
    generation(store, "new", "filling")
    store.write_items([write("a", {1: 1.0}), write("b")])
    assert store.repair_count() == 3
    store.put_generation(first.model_copy(update={"state": "retired"}))
    store.write_items([write("a", {2: 2.0})])
    assert store.verify() == []
    assert [(entry.generation, entry.id) for entry in store.repairs(None, 9)] == [(2, "b")]
    assert (store.repair_count(), store.repair_count(1)) == (1, 1)
    assert store.drop_generation_vectors(1) == 1
    assert store.repair_count(1) == 0


def test_checkpoints_are_per_name_generation_and_shard(open_at: Callable[..., SqlStore]) -> None:
    store = open_at(shards=2)
    store.put_checkpoint("backfill", 1, 0, {"cursor": [1.5, 7]})
    store.put_checkpoint("backfill", 1, 1, {"cursor": None})
    store.put_checkpoint("backfill", 1, 0, {"cursor": [0.5, 3]})
    assert store.get_checkpoint("backfill", 1, 0) == {"cursor": [0.5, 3]}
    assert store.get_checkpoint("backfill", 1, 1) == {"cursor": None}
    assert store.get_checkpoint("backfill", 2, 0) is None
    assert store.get_checkpoint("other", 1, 0) is None
