"""A controller that was deposed while it slept can change nothing any more, by whichever write."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from embedcore.errors import FailedPrecondition
from embedcore.migration_types import Migration, Phase, Plan
from embedcore.store import SqlStore
from embedcore.types import DEFAULT_CONSUMERS
from store.builders import generation, item_number, model, raw, vector, write

VECTOR = vector(5.0)

# Every method of the store that writes -> a call that would change something. A method that writes and is not
# here fails the test below it.
WRITES: dict[str, Callable[[SqlStore], Any]] = {
    "write_items": lambda store: store.write_items([write("b", {1: 1.0})]),
    "delete_items": lambda store: store.delete_items(["a"]),
    "write_vectors": lambda store: store.write_vectors(2, [(item_number(store, "a"), 1, VECTOR)]),
    "hold": lambda store: store.hold("lane/g1", 0, 1, generation=1),
    "release": lambda store: store.release("lane/g1"),
    "prune": lambda store: store.prune(),
    "add_repairs": lambda store: store.add_repairs(1, [item_number(store, "a")], "diverged"),
    "repair_failed": lambda store: store.repair_failed(2, item_number(store, "a"), "again"),
    "put_checkpoint": lambda store: store.put_checkpoint("backfill", 2, 0, {"at": 1}),
    "drop_generation_vectors": lambda store: store.drop_generation_vectors(3),
    "put_consumer": lambda store: store.put_consumer(DEFAULT_CONSUMERS[0]),
    "put_model": lambda store: store.put_model(model("another")),
    "create_generation": lambda store: store.create_generation("old", "filling", 1.0),
    "put_generation": lambda store: store.put_generation(
        store.generations()[1].model_copy(update={"state": "retired"})
    ),
    "put_migration": lambda store: store.put_migration(migration(), [], 1),
    "set_meta": lambda store: store.set_meta("note", "x"),
    "put_blob": lambda store: store.put_blob("k", "n", b"v"),
    "add_engagement": lambda store: store.add_engagement("m1", "ads", "canary", {"clicks": 1.0}, False),
}
# What writes without being the controller's: it makes the epoch, or changes no row.
OTHERS = {"acquire_epoch", "close", "now", "use_clock", "on_commit", "remove_on_commit", "leading"}


def migration() -> Migration:
    return Migration(
        id="m1",
        source=1,
        target=2,
        target_model="new",
        phase=Phase.BACKFILL,
        plan=Plan(),
        created_at=0.0,
        created_by="test",
        consumers={},
    )


def rows(store: SqlStore) -> dict[str, list[Any]]:
    with store.database.read() as connection:
        run = connection.exec_driver_sql
        names = run("SELECT name FROM sqlite_schema WHERE type = 'table'").scalars().all()
        return {name: sorted(run(f"SELECT * FROM {name}").all(), key=repr) for name in names}


@pytest.fixture
def filled(store: SqlStore) -> SqlStore:
    generation(store)
    generation(store, "new", "filling")
    generation(store, "gone", "filling")
    store.write_items([write("a", {1: 1.0, 3: 1.0})])
    store.put_generation(store.generations()[2].model_copy(update={"state": "retired"}))
    return store


@pytest.mark.parametrize("name", sorted(WRITES))
def test_a_deposed_leader_is_refused(filled: SqlStore, name: str) -> None:
    deposed = filled.leading(filled.acquire_epoch("first"))
    leader = filled.leading(filled.acquire_epoch("second"))
    raw(filled, "UPDATE shards SET pruned = 0")  # rows() sees a change of whatever kind
    before = rows(filled)
    with pytest.raises(FailedPrecondition, match="epoch 1 is not the current one, 2"):
        WRITES[name](deposed)
    assert rows(filled) == before
    if name == "put_migration":
        leader.put_migration(migration(), [], 2)
    else:
        WRITES[name](leader)
    if name != "prune":  # with these holds there is nothing to prune
        assert rows(filled) != before


def test_every_method_that_writes_is_tried() -> None:
    methods = {
        name for name, member in inspect.getmembers(SqlStore, inspect.isfunction) if not name.startswith("_")
    }
    reads = {name for name in methods if _only_reads(name)}
    assert methods - reads - OTHERS == set(WRITES)


def _only_reads(name: str) -> bool:
    source = inspect.getsource(getattr(SqlStore, name))
    writing = ("_write(", "_run(", "_run_on_documents(", "_prune(", "database.write(")
    reading = ("_read()", "_known(")
    return not any(word in source for word in writing) and (
        any(word in source for word in reading) or name in ("names", "matching")
    )


def test_the_leader_and_those_who_are_no_controller_go_on(filled: SqlStore) -> None:
    """Writers and lanes know of no epoch, and share commits with a controller that is refused."""
    leader = filled.leading(filled.acquire_epoch("first"))
    leader.put_checkpoint("backfill", 2, 0, {"at": 1})
    filled.acquire_epoch("second")
    filled.write_items([write("b", {1: 1.0})])
    assert leader.live_items() == 2  # it may still read
    assert leader.get_checkpoint("backfill", 2, 0) == {"at": 1}
    _, vectors = leader.stored_vectors(1, np.array([item_number(filled, "b")]))
    assert vectors[0, 0] == 1.0
    assert filled.verify() == []
