"""Stores of every schema version: stored fixtures open, and one version back is what that version was."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from embedcore.clock import ManualClock
from embedcore.errors import DataLoss, FailedPrecondition
from embedcore.store import SqlStore, open_store, schema
from embedcore.store.connection import Database, WriteTransaction
from embedcore.store.interface import LogPruned
from embedcore.store.retention import lane_hold
from embedcore.store.schema_steps import STEPS, downgrade, upgrade
from embedcore.store.sql_store import DATABASE_FILE
from store.builders import follow, raw, write
from store.history import write_history

FIXTURES = Path(__file__).resolve().parents[2] / "data"
VERSIONS = [*sorted(STEPS), schema.SCHEMA_VERSION]


def load(folder: Path, version: int) -> Path:
    """The database of a stored fixture, as a data directory."""
    folder.mkdir(exist_ok=True)
    path = folder / DATABASE_FILE
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FIXTURES / f"store-v{version}.sql").read_text(encoding="utf-8"))
    return path


def shape(path: Path) -> dict[str, Any]:
    """Tables with their columns, and indexes with theirs; written alike whoever made them."""
    with closing(sqlite3.connect(path)) as connection:
        found: dict[str, Any] = {}
        for name, kind in connection.execute(
            "SELECT name, type FROM sqlite_schema WHERE name NOT LIKE 'sqlite%' ORDER BY name"
        ).fetchall():
            pragma = "table_info" if kind == "table" else "index_info"
            columns = connection.execute(f"PRAGMA {pragma}({name})").fetchall()
            # Name, type and whether null is allowed; the order of added columns and their default differ.
            found[name] = sorted((row[1:4] if kind == "table" else row[2:]) for row in columns)
        return found


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
        ]
        return {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}


def is_history(store: SqlStore) -> None:
    """What tests/python/store/history.py wrote is all there."""
    assert store.verify() == []
    assert store.live_items() == 11
    assert [generation.state for generation in store.generations()] == ["serving", "filling"]
    back = store.get_item("i3")
    assert back is not None
    assert (back.version, back.content, back.held) == (3, "back", {1: 3, 2: 3})
    gone = store.get_item("i4")
    assert gone is not None
    assert (gone.deleted, gone.version) == (True, 2)
    assert [entry.reason for entry in store.repairs(2, 10)] == ["refused"]
    late = store.get_item("i7")
    assert late is not None
    assert late.held == {1: 1, 2: 1}
    assert store.get_checkpoint("backfill", 2, late.shard) == {"item": late.item}
    assert store.get_meta("note") == "kept"
    assert store.get_blob("golden_set", "g/1") == b"\x00\xff"
    assert store.acquire_epoch("next") == 2
    index: dict[int, float] = {}
    for shard in range(store.shards):
        follow(store, 1, shard, index)
    assert sorted(index.values()) == [0.0, 1.0, 2.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 33.0, 55.0]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_of_every_version_opens(tmp_path: Path, clock: ManualClock, version: int) -> None:
    load(tmp_path, version)
    store = open_store(tmp_path, clock)
    is_history(store)
    assert store.get_meta("schema_version") == str(schema.SCHEMA_VERSION)
    names = {hold.name for hold in store.holds()}
    assert names == {"lane/g1", "lane/g2", "backfill/g2"}
    # It goes on: the largest number given out was a tombstone's.
    number = store.get_item("last", "n")
    assert number is not None
    store.write_items([write("fresh", {1: 1.0, 2: 1.0})])
    fresh = store.get_item("fresh")
    assert fresh is not None
    assert fresh.item == number.item + 1
    assert store.verify() == []
    store.close()


def test_an_upgraded_store_has_the_shape_of_a_new_one(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "new").mkdir()
    open_store(tmp_path / "new", clock).close()
    old = load(tmp_path / "old", 1)
    open_store(tmp_path / "old", clock).close()
    assert shape(old) == shape(tmp_path / "new" / DATABASE_FILE)


@pytest.mark.parametrize("version", sorted(STEPS))
def test_one_version_back_is_what_that_version_was(tmp_path: Path, version: int) -> None:
    """Down from where an upgrade had brought it: table by table, row by row, the stored fixture."""
    path = load(tmp_path, version)
    before, shape_before = rows(path), shape(path)
    database = Database(path)
    upgrade(database)
    assert rows(path) != before
    assert downgrade(database) == version
    database.close()
    assert rows(path) == before
    assert shape(path) == shape_before


def test_down_and_up_again_loses_nothing_that_is_alive(
    open_at: Callable[..., SqlStore], clock: ManualClock
) -> None:
    """Log and tombstones were pruned meanwhile, which version 1 cannot express: it gets a log of full length,
    and no number is ever given out twice."""
    store = open_at(shards=2)
    write_history(store)
    for generation in (1, 2):
        for shard in range(2):
            store.hold(lane_hold(generation), shard, store.head(shard), generation=generation)
    for shard in range(2):
        store.release("backfill/g2", shard)
    assert store.prune().tombstones > 0
    assert store.get_item("last", "n") is None
    assert store.verify() == []
    heads = [store.head(shard) for shard in range(2)]
    given = store.get_items(range(100))[-1].item
    store.close()

    database = Database(store.database.path)
    downgrade(database)
    database.close()
    with closing(sqlite3.connect(store.database.path)) as connection:
        # The invariants that version 1 checks.
        for shard, head in enumerate(heads):
            query = "SELECT count(*), min(sequence), max(sequence) FROM log WHERE shard = ?"
            assert connection.execute(query, (shard,)).fetchone() == (head, 1, head)
        largest = connection.execute("SELECT max(item) FROM items").fetchone()[0]
        assert largest > given  # of the tombstone that had gone
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() == ("1",)

    store = open_at()
    assert store.verify() == []
    assert [store.head(shard) for shard in range(2)] == heads
    assert store.live_items() == 11
    store.write_items([write("fresh", {1: 1.0, 2: 1.0})])
    fresh = store.get_item("fresh")
    assert fresh is not None
    assert fresh.item == largest + 1
    # What stands in for the pruned entries is known for what it is: no lane takes it for the real ones.
    assert [store.pruned(shard) for shard in range(2)] == heads
    with pytest.raises(LogPruned, match="rebuild"):
        store.read_lane(1, fresh.shard, 0, 100)
    batch = store.read_lane(1, fresh.shard, heads[fresh.shard], 100)
    assert batch is not None
    assert batch.ids.tolist() == [fresh.item]


def test_a_newer_store_is_refused_and_not_touched(open_at: Callable[..., SqlStore]) -> None:
    store = open_at()
    store.write_items([write("a")])
    raw(store, "UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    store.close()
    before = store.database.path.read_bytes()
    with pytest.raises(FailedPrecondition, match=r"version 99.*upgrade embedcore") as caught:
        open_at()
    assert "\n" not in str(caught.value)
    assert store.database.path.read_bytes() == before


@pytest.mark.parametrize(("mark", "error"), [("0", FailedPrecondition), ("two", DataLoss)])
def test_a_version_that_never_was_is_refused(
    open_at: Callable[..., SqlStore], mark: str, error: type[Exception]
) -> None:
    store = open_at()
    raw(store, "UPDATE meta SET value = ? WHERE key = 'schema_version'", mark)
    store.close()
    with pytest.raises(error, match="schema version"):
        open_at()


def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a step is undone with the rest of it: one transaction."""
    path = load(tmp_path, 1)
    before = rows(path)
    step = STEPS[1]

    def broken(connection: Any) -> None:
        step.up(connection)
        raise RuntimeError("lost power")

    monkeypatch.setitem(STEPS, 1, step._replace(up=broken))
    database = Database(path)
    with pytest.raises(RuntimeError, match="lost power"):
        upgrade(database)
    assert rows(path) == before
    monkeypatch.undo()
    upgrade(database)
    with pytest.raises(RuntimeError, match="lost power"):
        database.write(lambda transaction: _down_then_fail(transaction))
    with database.read() as connection:
        version = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'schema_version'").scalar()
        assert version == str(schema.SCHEMA_VERSION)
        assert connection.exec_driver_sql("SELECT count(*) FROM holds").scalar() == 6
    database.close()


def _down_then_fail(transaction: WriteTransaction) -> None:
    STEPS[1].down(transaction.connection)
    raise RuntimeError("lost power")
