"""Writes: versions, dual write with repair entries, tombstones, late vectors, refusals."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from embedcore.clock import ManualClock
from embedcore.errors import EmbedcoreError, InvalidArgument
from embedcore.store import SqlStore
from embedcore.store.interface import ItemWrite
from store.builders import follow, generation, item_number, raw, vector, write
from store.xxh64_oracle import xxh64


def test_a_write_is_kept_with_its_vector(store: SqlStore, clock: ManualClock) -> None:
    generation(store)
    receipt = store.write_items(
        [write("a", {1: 3.0}, content="text", attributes={"pos": "noun", "rank": 2}, namespace="words")]
    )
    assert (receipt.token, receipt.versions, receipt.repairs) == ({0: 1}, (1,), 0)
    stored = store.get_item("a", "words")
    assert stored is not None
    assert (stored.version, stored.content, stored.created_at) == (1, "text", clock.now())
    assert stored.attributes == {"pos": "noun", "rank": 2}
    assert stored.held == {1: 1}
    items, rows = store.stored_vectors(1, np.array([stored.item]))
    assert items.tolist() == [stored.item]
    np.testing.assert_array_equal(rows, [vector(3.0)])
    assert store.get_item("a") is None  # another namespace


def test_versions_count_writes_and_deletes_and_go_on_after_a_delete(store: SqlStore) -> None:
    generation(store)
    versions = [
        store.write_items([write("a", {1: 1.0})]).versions,
        store.write_items([write("a", {1: 2.0})]).versions,
        store.delete_items(["a", "unknown"]).versions,
        store.delete_items(["a"]).versions,
        store.write_items([write("a", {1: 3.0})]).versions,
    ]
    assert versions == [(1,), (2,), (3, 0), (0,), (4,)]
    assert store.head(0) == 4


def test_created_at_is_kept_on_updates_and_new_after_a_delete(store: SqlStore, clock: ManualClock) -> None:
    born = clock.now()
    store.write_items([write("a"), write("b", created_at=5.0)])
    clock.advance(100)
    store.write_items([write("a"), write("b", created_at=6.0)])
    a, b = store.get_item("a"), store.get_item("b")
    assert a is not None
    assert b is not None
    assert (a.created_at, a.updated_at, b.created_at) == (born, born + 100, 6.0)
    store.delete_items(["a"])
    store.write_items([write("a")])
    again = store.get_item("a")
    assert again is not None
    assert (again.created_at, again.item) == (born + 100, a.item)


def test_several_writes_of_one_id_apply_in_order_and_the_last_wins(store: SqlStore) -> None:
    generation(store)
    receipt = store.write_items(
        [write("a", {1: 1.0}, content="x"), write("b", {1: 5.0}), write("a", {1: 2.0}, content="y")]
    )
    assert receipt.versions == (1, 1, 2)
    stored = store.get_item("a")
    assert stored is not None
    assert (stored.content, stored.held) == ("y", {1: 2})
    assert store.live_items() == 2
    index: dict[int, float] = {}
    follow(store, 1, 0, index)
    assert sorted(index.values()) == [2.0, 5.0]
    assert store.verify() == []


def test_the_last_write_of_a_batch_decides_about_the_vector(store: SqlStore) -> None:
    generation(store)
    receipt = store.write_items([write("a", {1: 1.0}), write("a", failures={1: "model is down"})])
    assert receipt.repairs == 1
    assert [(entry.version, entry.reason) for entry in store.repairs(1, 9)] == [(2, "model is down")]
    assert store.stored_vectors(1, np.array([item_number(store, "a")]))[0].size == 0


def test_every_live_generation_gets_a_vector_or_a_repair_entry(store: SqlStore, clock: ManualClock) -> None:
    generation(store, "old")
    generation(store, "new", "filling")
    receipt = store.write_items(
        [
            write("both", {1: 1.0, 2: 1.0}),
            write("failed", {1: 1.0}, failures={2: "too long"}, content="text"),
            write("silent", {1: 1.0}),
        ]
    )
    assert receipt.repairs == 2
    entries = store.repairs(2, 9)
    assert [(e.id, e.version, e.content, e.reason, e.attempts) for e in entries] == [
        ("failed", 1, "text", "too long", 0),
        ("silent", 1, None, "no vector given", 0),
    ]
    assert entries[0].enqueued_at == clock.now()
    assert store.repair_count() == store.repair_count(2) == 2
    store.write_items([write("failed", {1: 2.0, 2: 2.0})])
    assert [entry.id for entry in store.repairs(None, 9)] == ["silent"]
    assert store.verify() == []


def test_a_vector_and_the_repair_entry_of_another_are_one_transaction(store: SqlStore) -> None:
    """Where the entry cannot be written, nothing of the item is; and the other way round."""
    generation(store, "old")
    generation(store, "new", "filling")
    for table in ("repair", "vectors", "log"):
        raw(store, f"CREATE TRIGGER t BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no {table}'); END")
        with pytest.raises(EmbedcoreError, match=f"no {table}"):
            store.write_items([write("a", {1: 1.0}, failures={2: "refused"})])
        assert (store.get_item("a"), store.head(0), store.repair_count(), store.live_items()) == (
            None,
            0,
            0,
            0,
        )
        raw(store, "DROP TRIGGER t")
    assert store.write_items([write("a", {1: 1.0}, failures={2: "refused"})]).repairs == 1
    assert store.repair_count(2) == 1
    assert store.verify() == []


def test_a_retired_generation_gets_nothing(store: SqlStore) -> None:
    first = generation(store)
    store.put_generation(first.model_copy(update={"state": "retired"}))
    receipt = store.write_items([write("a", {1: 1.0})])
    assert receipt.repairs == 0
    stored = store.get_item("a")
    assert stored is not None
    assert stored.held == {}
    assert store.write_vectors(1, [(stored.item, 1, vector(1.0))]) == (0, 1)


def test_a_delete_drops_vectors_and_repairs_and_leaves_a_tombstone(store: SqlStore) -> None:
    generation(store)
    generation(store, "new", "filling")
    store.write_items([write("a", {1: 1.0}, content="text", attributes={"k": 1})])
    item = item_number(store, "a")
    receipt = store.delete_items(["a"])
    assert receipt.token == {0: 2}
    stored = store.get_item("a")
    assert stored is not None
    assert (stored.deleted, stored.version, stored.content, stored.attributes) == (True, 2, None, {})
    assert stored.held == {}
    assert store.repair_count() == 0
    assert store.items_of(["a"]).tolist() == [-1]
    assert store.names([item]) == [("a", "")]
    assert store.matching("", {"k": 1}) is not None
    assert store.matching("", {"k": 1}).tolist() == []  # type: ignore[union-attr]


def test_a_repeated_delete_can_still_be_waited_for(store: SqlStore) -> None:
    store.write_items([write("a")])
    store.delete_items(["a"])
    again = store.delete_items(["a"])
    assert (again.versions, again.token) == ((0,), {0: 2})
    assert store.delete_items(["never written"]).token == {}


def test_late_vectors_are_void_unless_the_version_is_current(store: SqlStore) -> None:
    generation(store)
    generation(store, "new", "filling")
    store.write_items([write(name, {1: 1.0}) for name in ("current", "updated", "deleted")])
    numbers = {name: item_number(store, name) for name in ("current", "updated", "deleted")}
    store.write_items([write("updated", {1: 2.0, 2: 2.0})])
    store.delete_items(["deleted"])
    head = store.head(0)
    rows = [(number, 1, vector(9.0)) for number in numbers.values()] + [(777, 1, vector(9.0))]
    assert store.write_vectors(2, rows, checkpoint=("backfill", 0, {"done": 3})) == (1, 3)
    assert store.head(0) == head + 1
    assert store.get_checkpoint("backfill", 2, 0) == {"done": 3}
    index: dict[int, float] = {}
    follow(store, 2, 0, index)
    assert index == {numbers["current"]: 9.0, numbers["updated"]: 2.0}
    assert store.repair_count(2) == 0
    assert store.verify() == []


def test_late_vectors_for_a_deleted_and_re_added_item_are_void(store: SqlStore) -> None:
    generation(store)
    store.write_items([write("a")])
    number = item_number(store, "a")
    store.delete_items(["a"])
    store.write_items([write("a")])
    assert store.write_vectors(1, [(number, 1, vector(1.0))]) == (0, 1)
    assert store.write_vectors(1, [(number, 3, vector(1.0))]) == (1, 0)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (ItemWrite("", content="x"), "empty"),
        (ItemWrite("a\0b"), "NUL"),
        (ItemWrite("x" * 2000), "2000 bytes"),
        (ItemWrite("a", namespace="n\0"), "NUL"),
        (ItemWrite("a", content="\ud800"), "Unicode"),
        (ItemWrite("a", created_at=float("nan")), "created_at"),
        (ItemWrite("a", attributes={"k": float("inf")}), "finite"),
        (ItemWrite("a", attributes={"k": [1]}), "list"),  # type: ignore[dict-item]
        (ItemWrite("a", vectors={1: vector(1.0, dimension=5)}), r"shape \(5,\).*\(4,\)"),
        (ItemWrite("a", vectors={1: vector(float("nan"))}), "finite"),
        (ItemWrite("a", vectors={1: np.array([1e300, 0, 0, 0])}), "finite"),
        (ItemWrite("a", vectors={1: np.array(["x"] * 4)}), "floats"),
        (ItemWrite("a", vectors={7: vector(1.0)}), "generation 7 does not exist"),
        (ItemWrite("a", failures={7: "why"}), "generation 7 does not exist"),
    ],
)
def test_one_bad_write_refuses_the_batch_whole(store: SqlStore, bad: ItemWrite, says: str) -> None:
    generation(store)
    before = (store.head(0), store.check_shard(0))
    with pytest.raises(InvalidArgument, match=says) as caught:
        store.write_items([write("good", {1: 1.0}), bad])
    assert "\n" not in str(caught.value)
    assert (store.head(0), store.check_shard(0)) == before
    assert store.get_item("good") is None


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.write_vectors(9, [(1, 1, vector(1.0))]),
        lambda store: store.write_vectors(1, [(1, 1, vector(1.0, dimension=3))]),
        lambda store: store.write_vectors(1, [(1, 1, vector(float("inf")))]),
        lambda store: store.write_vectors(1, [], checkpoint=("backfill", 0, {"state": object()})),
        lambda store: store.write_vectors(1, [], checkpoint=("backfill", 5, {})),
        lambda store: store.delete_items("abc"),
        lambda store: store.delete_items([""]),
        lambda store: store.read_lane(1, 3, 0, 10),
        lambda store: store.read_lane(4, 0, 0, 10),
        lambda store: store.read_backfill(1, 0, None, 0),
        lambda store: store.set_meta("shards", "4"),
    ],
)
def test_bad_calls_are_refused(store: SqlStore, call: Any) -> None:
    generation(store)
    store.write_items([write("a", {1: 1.0})])
    with pytest.raises(EmbedcoreError) as caught:
        call(store)
    assert caught.value.code in ("invalid_argument", "not_found")
    assert store.head(0) == 1
    assert store.verify() == []


def test_vectors_of_other_dtypes_are_converted(store: SqlStore) -> None:
    generation(store)
    half = np.array([0.5, 0, 0, 1], dtype=np.float16)
    store.write_items([ItemWrite("a", vectors={1: half})])  # type: ignore[dict-item]
    _, rows = store.stored_vectors(1, store.items_of(["a"]))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[0], half)


def test_empty_calls_change_nothing(store: SqlStore) -> None:
    generation(store)
    assert store.write_items([]).token == {}
    assert store.delete_items([]).versions == ()
    assert store.write_vectors(1, []) == (0, 0)
    assert store.head(0) == 0


def test_shards_and_checksum_are_the_documented_hash(open_at: Any) -> None:
    """Recomputed here from the file with an XXH64 of the test's own."""
    store: SqlStore = open_at(shards=4)
    ids = [f"item-{number}" for number in range(40)] + ["größe", "日本"]
    store.write_items([write(name, content=f"text of {name} " * 5) for name in ids])
    store.write_items([write(ids[0])])
    store.delete_items([ids[1]])
    sums = dict.fromkeys(range(4), 0)
    for name in ids:
        stored = store.get_item(name)
        assert stored is not None
        assert stored.shard == xxh64(name.encode()) % 4
        mark = "D" if stored.deleted else "N" if stored.content is None else "C" + stored.content
        sums[stored.shard] += xxh64(f"{name}\0\0{stored.version}\0{mark}".encode())
    for shard in range(4):
        check = store.check_shard(shard)
        assert check.ok
        assert check.stored == sums[shard] % 2**64
    assert sum(store.check_shard(shard).items for shard in range(4)) == len(ids)


def test_statements_per_batch_do_not_grow_with_the_batch(store: SqlStore) -> None:
    """Speed without a stopwatch: no query per row, and rows go in by a few statements for many rows."""
    generation(store)
    generation(store, "new", "filling")
    run: list[str] = []

    def statements(size: int) -> tuple[int, set[str]]:
        """Queries, and what else was run, once however many rows it was run for."""
        run.clear()
        names = [f"{size}-{number}" for number in range(size)]
        store.write_items([write(name, {1: 1.0}, attributes={"k": 1}) for name in names])
        store.write_items([write(name, {1: 1.0, 2: 2.0}) for name in names])
        store.delete_items(names)
        queries = [text for text in run if text.startswith("SELECT")]
        return len(queries), {" ".join(text.split()[:3]) for text in run if text not in queries}

    trace = store.database._writer.connection.driver_connection.set_trace_callback  # type: ignore[union-attr]
    trace(run.append)
    small = statements(2)
    assert small[0] > 0
    assert statements(800) == small


def test_attributes_survive_json(store: SqlStore) -> None:
    attributes = {"text": "ä\n'\"", "number": 1.5, "whole": 7, "truth": True}
    store.write_items([write("a", attributes=attributes)])
    stored = store.get_item("a")
    assert stored is not None
    assert json.dumps(dict(stored.attributes), sort_keys=True) == json.dumps(attributes, sort_keys=True)
    assert raw(store, "UPDATE items SET updated_at = updated_at") == 1
