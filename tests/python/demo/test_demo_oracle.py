"""The oracle: planted losses are reported, and nothing else is."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from embedcore.demo.oracle import Expected, OracleLog, compare, read_expected
from embedcore.errors import NotFound
from embedcore.types import StoredItem

TARGET = 2


class Database:
    """What a platform would answer, easy to damage."""

    def __init__(self) -> None:
        self.items: dict[str, StoredItem] = {}

    def put(self, item_id: str, version: int, content: str, held: int | None = None) -> None:
        self.items[item_id] = StoredItem(
            id=item_id,
            namespace="",
            item=len(self.items),
            shard=0,
            version=version,
            created_at=0.0,
            updated_at=0.0,
            content=content,
            attributes={},
            deleted=False,
            held={TARGET: version if held is None else held},
        )

    def get(self, item_id: str) -> StoredItem:
        if item_id not in self.items:
            raise NotFound(item_id)
        return self.items[item_id]


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "ingest.jsonl", tmp_path / "traffic.jsonl"
    with OracleLog(first) as log:
        for number in range(100):
            log.upserted(f"i{number}", 1, f"text {number}")
    with OracleLog(second) as log:
        log.upserted("i1", 2, "changed")
        log.deleted("i2", 2)
        log.upserted("new", 1, "arrived")
        log.deleted("i3", 2)
        log.upserted("i3", 3, "back again")
    return first, second


@pytest.fixture
def database() -> Database:
    made = Database()
    for number in range(100):
        made.put(f"i{number}", 1, f"text {number}")
    made.put("i1", 2, "changed")
    del made.items["i2"]
    made.put("new", 1, "arrived")
    made.put("i3", 3, "back again")
    return made


def found(logs: tuple[Path, Path], database: Database) -> dict[str, str]:
    verdict = compare(*read_expected(logs), database.get, TARGET)
    return {loss.id: loss.what for loss in verdict.losses}


def test_a_database_that_kept_everything_has_no_loss(logs: tuple[Path, Path], database: Database) -> None:
    verdict = compare(*read_expected(logs), database.get, TARGET)
    assert verdict.losses == ()
    assert (verdict.acknowledged, verdict.items, verdict.deleted, verdict.in_doubt) == (105, 101, 1, 0)


def test_each_kind_of_planted_loss_is_reported(logs: tuple[Path, Path], database: Database) -> None:
    del database.items["i50"]  # gone
    database.put("i1", 1, "text 1")  # an acknowledged update undone
    database.put("i2", 1, "text 2")  # a delete resurrected
    database.put("i60", 1, "somebody else's text")
    database.put("i70", 1, "text 70", held=0)  # the target has no vector of it
    database.put("i3", 3, "back again", held=1)  # the target holds an old one
    losses = found(logs, database)
    assert set(losses) == {"i50", "i1", "i2", "i60", "i70", "i3"}
    assert losses["i50"] == "acknowledged at version 1, not found"
    assert losses["i2"] == "deleted at version 2, found at version 1"
    assert "holds version 1" in losses["i3"]


def test_a_version_nobody_acknowledged_is_a_loss(logs: tuple[Path, Path], database: Database) -> None:
    database.put("i9", 2, "text 9")
    assert found(logs, database) == {"i9": "version 2, acknowledged was 1"}


def test_a_write_in_doubt_may_have_happened_or_not(tmp_path: Path, database: Database) -> None:
    path = tmp_path / "log.jsonl"
    with OracleLog(path) as log:
        log.upserted("a", 1, "old")
        log.in_doubt("a", "new")
        log.upserted("b", 1, "kept")
        log.in_doubt("b", None)
        log.in_doubt("c", "perhaps")
    expected = read_expected([path])
    for a, b, c in (("old", "kept", None), ("new", None, "perhaps")):
        database.items.clear()
        database.put("a", 1 if a == "old" else 2, a)
        if b is not None:
            database.put("b", 1, b)
        if c is not None:
            database.put("c", 1, c)
        assert compare(*expected, database.get, TARGET).losses == ()
    database.put("a", 2, "neither of the two")
    (loss,) = compare(*expected, database.get, TARGET).losses
    assert loss.id == "a"


def test_the_last_version_wins_whatever_the_order_of_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with OracleLog(path) as log:
        log.upserted("a", 3, "third")
        log.upserted("a", 2, "second")
    assert read_expected([path]) == ({"a": Expected(3, "third")}, 2)


def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with OracleLog(path) as log:

        def write(worker: int) -> None:
            for number in range(200):
                log.upserted(f"{worker}-{number}", 1, "x" * 300)

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log.acknowledged == 800
    expected, acknowledged = read_expected([path])
    assert (len(expected), acknowledged) == (800, 800)
