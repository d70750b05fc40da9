"""Writers, readers and listeners at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedcore.store import SqlStore
from store.builders import follow, generation, write


def test_writers_and_a_lane_at_once_lose_nothing(store: SqlStore) -> None:
    generation(store)
    done = threading.Event()
    index: dict[int, float] = {}

    def follow_live() -> int:
        at = 0
        while not done.is_set():
            at = follow(store, 1, 0, index, at, limit=7)
        return at

    def write_many(writer: int) -> None:
        for number in range(25):
            name = f"i{(writer + number) % 12}"
            if number % 5 == 4:
                store.delete_items([name])
            else:
                store.write_items([write(name, {1: writer * 100.0 + number}), write(f"w{writer}", {1: 1.0})])

    with ThreadPoolExecutor(5) as pool:
        lane = pool.submit(follow_live)
        list(pool.map(write_many, range(4)))
        done.set()
        at = lane.result(timeout=60)
    follow(store, 1, 0, index, at)
    items, rows = store.scan_vectors(1, 0, -1, 1000)
    assert index == dict(zip(items.tolist(), rows[:, 0].tolist(), strict=True))
    assert store.verify() == []


def test_listeners_hear_of_every_sequenced_commit_in_order(store: SqlStore) -> None:
    generation(store)
    heads: list[int] = []  # several writers may have shared the commit that is heard of
    store.on_commit(lambda: heads.append(store.head(0)))

    def writer(number: int) -> None:
        for step in range(10):
            store.write_items([write(f"{number}-{step}", {1: 1.0})])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(writer, range(4)))
    assert len(heads) == 40
    assert heads == sorted(heads)
    assert heads[-1] == 40
    store.set_meta("note", "no sequence")
    store.delete_items(["unknown"])
    assert len(heads) == 40


def test_a_listener_that_raises_or_is_removed_harms_nobody(
    store: SqlStore, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken() -> None:
        raise ValueError("listener is broken")

    def fine() -> None:
        heard.append("fine")

    store.on_commit(broken)
    store.on_commit(fine)
    assert store.write_items([write("a")]).versions == (1,)
    assert heard == ["fine"]
    assert "listener is broken" in caplog.text
    store.remove_on_commit(fine)
    store.write_items([write("a")])
    assert heard == ["fine"]


def test_a_listener_that_writes_is_told_so_instead_of_waiting_for_ever(
    store: SqlStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.on_commit(lambda: store.set_meta("note", "from a hook"))
    store.write_items([write("a")])
    assert "must not write" in caplog.text
    assert store.get_meta("note") is None


def test_a_reader_sees_one_snapshot(store: SqlStore) -> None:
    generation(store)
    store.write_items([write("a", {1: 1.0})])
    with store.database.read() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM items").scalar_one()
        store.write_items([write("b", {1: 1.0})])
        assert connection.exec_driver_sql("SELECT count(*) FROM items").scalar_one() == before
    assert store.live_items() == 2
