"""Crashes, full and failing disks, damage: what was acknowledged is there, nothing is half-written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedcore.clock import ManualClock
from embedcore.errors import DataLoss, ResourceExhausted, Unavailable
from embedcore.store import SqlStore, open_store
from store.builders import follow, generation, item_number, pragma, raw, write

CHILD = Path(__file__).with_name("crash_child.py")


def start_child(data_dir: Path, seed: int) -> subprocess.Popen[str]:
    paths = [path for path in sys.path if path]
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(data_dir), str(seed)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A child writes and prints what returned; it is killed at a random moment, and started again."""
    data_dir = tmp_path / "data"
    rng = random.Random(4)
    acknowledged: dict[str, tuple[int, bool]] = {}  # id -> version, deleted
    total = 0
    for kill in range(6):
        child = start_child(data_dir, seed=kill)
        assert child.stdout is not None
        wanted = rng.randint(1, 60)
        lines = [child.stdout.readline() for _ in range(wanted)]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
        # The last line may have been cut by the kill.
        for line in lines:
            if line.endswith("\n"):
                item_id, at, gone = line.split()
                acknowledged[item_id] = (int(at), gone == "1")
                total += 1

        store = open_store(data_dir, ManualClock())
        try:
            assert store.verify() == []
            for item_id, (version, deleted) in acknowledged.items():
                stored = store.get_item(item_id)
                assert stored is not None, f"{item_id} is missing after kill {kill}"
                # What was being written when the child died may be there as well: one write more.
                assert version <= stored.version <= version + 1
                if stored.version == version:
                    assert stored.deleted == deleted
                if not stored.deleted:
                    assert stored.content == f"{item_id} at {stored.version}"
                    assert stored.held == {1: stored.version}
                    _, rows = store.stored_vectors(1, np.array([stored.item]))
                    assert rows[0, 0] == stored.version
                acknowledged[item_id] = (stored.version, stored.deleted)
        finally:
            store.close()
    assert total > 100
    assert len(acknowledged) > 10


def test_a_full_disk_refuses_and_leaves_everything_as_it_was(open_at: Callable[..., SqlStore]) -> None:
    store = open_at()
    generation(store)
    store.write_items([write("first", {1: 1.0})])
    pages = pragma(store, "page_count")
    pragma(store, f"max_page_count={pages + 8}")
    written = 0

    def fill() -> None:
        nonlocal written
        for number in range(100):
            store.write_items([write(f"{number}-{n}", {1: 1.0}, content="x" * 500) for n in range(10)])
            written += 10

    with pytest.raises(ResourceExhausted, match="free disk space") as caught:
        fill()
    assert "\n" not in str(caught.value)
    assert 0 < written < 1000
    assert store.live_items() == written + 1
    assert store.head(0) == written + 1
    assert store.verify() == []
    pragma(store, "max_page_count=1000000")
    store.write_items([write("last", {1: 1.0})])
    store.close()
    assert open_at().live_items() == written + 2


def test_a_failed_transaction_changes_nothing(store: SqlStore) -> None:
    """Whatever raises inside a transaction, also half way, the next one starts from the last commit."""
    generation(store)
    store.write_items([write("a", {1: 1.0})])
    raw(store, "CREATE TRIGGER fault BEFORE INSERT ON vectors BEGIN SELECT RAISE(ABORT, 'fault'); END")
    woken: list[int] = []
    store.on_commit(lambda: woken.append(1))
    with pytest.raises(Exception, match="fault"):
        store.write_items([write("b", {1: 1.0}, namespace="other")])
    assert store.get_item("b", "other") is None
    assert (store.head(0), store.live_items(), woken) == (1, 1, [])
    assert store.matching("", {}) is None  # the other namespace was not remembered
    raw(store, "DROP TRIGGER fault")
    store.write_items([write("b", {1: 1.0})])
    assert woken == [1]
    assert store.verify() == []


def test_a_read_only_database_is_unavailable(store: SqlStore) -> None:
    pragma(store, "query_only=ON")
    with pytest.raises(Unavailable, match="writable"):
        store.write_items([write("a")])
    pragma(store, "query_only=OFF")
    store.write_items([write("a")])


@pytest.mark.parametrize("damage", ["header", "truncated"])
def test_a_damaged_file_is_data_loss(open_at: Callable[..., SqlStore], damage: str) -> None:
    store = open_at()
    generation(store)
    store.write_items([write(str(number), {1: 1.0}, content="text " * 50) for number in range(200)])
    store.close()
    path = store.database.path
    data = path.read_bytes()
    path.write_bytes(b"x" * 100 + data[100:] if damage == "header" else data[: len(data) // 2])
    with pytest.raises(DataLoss, match=r"backup|disk"):
        open_at().verify()


def test_a_directory_that_cannot_be_made_is_unavailable(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(Unavailable, match="data directory"):
        open_store(tmp_path / "file" / "data", clock)


def test_a_row_changed_behind_the_stores_back_is_found(store: SqlStore) -> None:
    generation(store)
    store.write_items([write(name, {1: 1.0}, content=f"text {name}") for name in "abc"])
    before = store.check_shard(0)
    assert (before.ok, before.items) == (True, 3)
    assert raw(store, "UPDATE items SET content = 'forged' WHERE id = 'b'") == 1
    check = store.check_shard(0)
    assert not check.ok
    assert check.stored == before.stored
    assert [problem.split(":")[0] for problem in store.verify()] == ["shard 0"]
    store.write_items([write("b", {1: 1.0}, content="text b")])  # rewriting the row heals the sum
    assert store.check_shard(0).ok


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM vectors WHERE item = 1", "neither a vector nor a repair entry"),
        ("DELETE FROM repair", "neither a vector nor a repair entry"),
        ("UPDATE vectors SET version = 7 WHERE item = 1", "marked wrongly"),
        ("UPDATE vectors SET sequence = NULL WHERE item = 1", "marked wrongly"),
        ("UPDATE vectors SET item = 99 WHERE item = 1", "vector without a live item"),
        ("UPDATE vectors SET item = 3 WHERE item = 1", "vector without a live item"),
        ("UPDATE repair SET item = 3", "repair entry without a live item"),
        ("UPDATE shards SET live = 9", "counter says 9"),
        ("DELETE FROM log WHERE sequence = 2", "log has"),
        ("DELETE FROM items WHERE id = 'a'", "checksum"),
        ("UPDATE items SET version = 2 WHERE id = 'a'", "checksum"),
    ],
)
def test_verify_fires_on_planted_damage(store: SqlStore, statement: str, says: str) -> None:
    generation(store)
    store.write_items([write("a", {1: 1.0}), write("queued", content="x"), write("gone", {1: 1.0})])
    store.delete_items(["gone"])
    assert [item_number(store, name) for name in ("a", "queued", "gone")] == [1, 2, 3]
    assert store.verify() == []
    assert raw(store, statement) == 1
    problems = store.verify()
    assert any(says in problem for problem in problems), problems


def test_items_older_than_a_generation_are_the_backfills_and_no_hole(store: SqlStore) -> None:
    generation(store)
    store.write_items([write("old", {1: 1.0})])
    generation(store, "new", "filling")
    assert store.verify() == []
    store.write_items([write("young", {1: 1.0})])
    raw(store, "DELETE FROM repair WHERE generation = 2")
    assert len(store.verify()) == 1


def test_reopening_keeps_lanes_and_sequences(open_at: Callable[..., SqlStore]) -> None:
    store = open_at(shards=2)
    generation(store)
    store.write_items([write(str(number), {1: float(number)}) for number in range(10)])
    heads = [store.head(0), store.head(1)]
    store.close()
    store = open_at()
    assert [store.head(0), store.head(1)] == heads
    receipt = store.write_items([write("0", {1: 99.0})])
    ((shard, sequence),) = receipt.token.items()
    assert sequence == heads[shard] + 1
    index: dict[int, float] = {}
    follow(store, 1, shard, index, after=heads[shard])
    assert list(index.values()) == [99.0]
