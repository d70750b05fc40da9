"""The write-ahead log is folded beside the writers: it stays short, and the file has what it held."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embedcore.clock import ManualClock
from embedcore.errors import ResourceExhausted
from embedcore.store import SqlStore, log_folding, open_store
from embedcore.store.connection import Database
from store.builders import generation, pragma, write

PAGE = 8192
WAL = "store.sqlite-wal"


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end, "nothing folded the log"
        time.sleep(0.005)


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What folds by the thread left, newest last; they begin at 64 pages, and no writer folds by itself."""
    monkeypatch.setattr(log_folding, "FOLD_PAGES", 64)
    seen: list[tuple[int, int]] = []
    fold = log_folding.fold

    def noted(connection: sqlite3.Connection) -> tuple[int, int]:
        seen.append(fold(connection))
        return seen[-1]

    monkeypatch.setattr(log_folding, "fold", noted)
    return seen


def fill(store: SqlStore, start: int, count: int) -> None:
    for number in range(start, start + count):
        store.write_items([write(f"i{number}", {1: float(number)}, content="x" * 3000)])


def test_the_log_is_folded_and_begins_anew(
    open_at: Callable[..., SqlStore], folds: list[tuple[int, int]]
) -> None:
    store = open_at()
    generation(store)
    pragma(store, "wal_autocheckpoint=0")
    wal = store.data_dir / WAL
    for round_ in range(20):
        seen = len(folds)
        fill(store, 40 * round_, 40)
        until(lambda: len(folds) > seen)  # noqa: B023  asked at once
    # Forty writes are some 200 pages: without folds the log would be twenty times that.
    assert wal.stat().st_size < 6 * 200 * PAGE
    assert store.live_items() == 800
    assert store.verify() == []
    store.close()
    assert not wal.exists()
    assert open_at().live_items() == 800


def test_the_file_alone_holds_what_was_folded(
    open_at: Callable[..., SqlStore], folds: list[tuple[int, int]], tmp_path: Path
) -> None:
    store = open_at()
    generation(store)
    pragma(store, "wal_autocheckpoint=0")
    fill(store, 0, 60)
    until(lambda: bool(folds) and not store.database._folding._wanted.is_set())
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copyfile(store.data_dir / "store.sqlite", alone / "store.sqlite")
    copied = open_store(alone, ManualClock())
    assert copied.live_items() > 10
    assert copied.verify() == []
    copied.close()


def test_a_reader_that_needs_the_log_keeps_nobody_waiting_and_is_not_asked_again_at_once(
    open_at: Callable[..., SqlStore], folds: list[tuple[int, int]]
) -> None:
    store = open_at()
    generation(store)
    pragma(store, "wal_autocheckpoint=0")
    fill(store, 0, 1)
    with store.database.read() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM items").scalar()
        fill(store, 1, 100)
        until(lambda: bool(folds) and not store.database._folding._wanted.is_set())
        assert any(folded < logged for logged, folded in folds)
        assert len(folds) <= 2 * (folds[-1][0] // 64 + 1)  # not with each of the hundred writes
        assert connection.exec_driver_sql("SELECT count(*) FROM items").scalar() == count == 1
    seen = len(folds)
    fill(store, 101, 100)
    until(lambda: len(folds) > seen)
    assert store.live_items() == 201
    assert store.verify() == []


def test_a_fold_that_fails_costs_no_write(
    open_at: Callable[..., SqlStore],
    folds: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = open_at()
    generation(store)
    failed = threading.Event()

    def full(*_: object) -> None:
        failed.set()
        raise ResourceExhausted("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "alone", full)
        fill(store, 0, 60)
        assert failed.wait(30)
        until(lambda: "could not be folded" in caplog.text)
    seen = len(folds)
    fill(store, 60, 60)
    until(lambda: len(folds) > seen)
    assert store.live_items() == 120
    assert store.verify() == []


def test_a_store_that_is_closed_during_a_fold_ends(
    open_at: Callable[..., SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it ends is the test: the fold goes on until its thread has been told to stop."""
    monkeypatch.setattr(log_folding, "FOLD_PAGES", 64)
    folding = threading.Event()
    store = open_at()
    fold = log_folding.fold

    def slow(connection: sqlite3.Connection) -> tuple[int, int]:
        folding.set()
        until(store.database._folding._ended.is_set)
        return fold(connection)

    monkeypatch.setattr(log_folding, "fold", slow)
    generation(store)
    fill(store, 0, 60)
    assert folding.wait(30)
    closer = threading.Thread(target=store.close, daemon=True)
    closer.start()
    closer.join(30)
    assert not closer.is_alive()
    assert open_at().live_items() == 60
