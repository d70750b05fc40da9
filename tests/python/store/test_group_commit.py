"""Writers that share a commit: who fails, who is told, in which order, and that nobody is left waiting."""

from __future__ import annotations

import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from embedcore.errors import ResourceExhausted, Unavailable
from embedcore.store import SqlStore
from embedcore.store.connection import Database, WriteTransaction
from embedcore.store.group_commit import MOST_MEMBERS, GroupCommit, Member
from store.builders import generation, raw, write

Work = Callable[[WriteTransaction], Any]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.001)


@contextmanager
def commits(database: Database) -> Iterator[list[str]]:
    """What the writing connection does: "commit" or "rollback" per transaction."""
    seen: list[str] = []
    listeners = {name: (lambda _, name=name: seen.append(name)) for name in ("commit", "rollback")}
    for name, listener in listeners.items():
        event.listen(database._write_engine, name, listener)
    yield seen
    for name, listener in listeners.items():
        event.remove(database._write_engine, name, listener)


def together(database: Database, works: Sequence[Work], weight: int = 1) -> list[Future[Any]]:
    """Submits works from a thread each so that they all wait behind one writer, and then share a commit in
    this order."""
    entered, go = threading.Event(), threading.Event()
    pool = ThreadPoolExecutor(len(works) + 1)

    def hold(_: WriteTransaction) -> None:
        entered.set()
        assert go.wait(30)

    first = pool.submit(database.write, hold)
    assert entered.wait(30)
    waiting = database._group._waiting
    futures = []
    for place, work in enumerate(works):
        futures.append(pool.submit(database.write, work, weight))
        until(lambda place=place: len(waiting) == place + 1)  # type: ignore[misc]
    go.set()
    first.result(30)
    pool.shutdown(wait=True)
    return futures


def put(name: str) -> Work:
    def work(transaction: WriteTransaction) -> str:
        transaction.connection.exec_driver_sql(
            "INSERT INTO blobs (kind, name, value) VALUES ('t', ?, x'00')", (name,)
        )
        return name

    return work


def failing(name: str, error: Exception) -> Work:
    def work(transaction: WriteTransaction) -> None:
        put(name)(transaction)
        raise error

    return work


def test_writers_that_meet_share_one_commit(store: SqlStore) -> None:
    names = [f"n{number}" for number in range(20)]
    with commits(store.database) as seen:
        futures = together(store.database, [put(name) for name in names])
    assert [future.result() for future in futures] == names
    assert store.blob_names("t") == sorted(names)
    assert seen == ["commit", "commit"]  # the one they waited for, and theirs


def test_a_shared_commit_is_bounded_in_members_and_rows(store: SqlStore) -> None:
    with commits(store.database) as seen:
        together(store.database, [put(f"a{number}") for number in range(MOST_MEMBERS + 1)])
    assert len(seen) == 3
    with commits(store.database) as seen:
        together(store.database, [put(f"b{number}") for number in range(4)], weight=3000)
    assert len(seen) == 3  # 8192 rows at most: two and two
    assert len(store.blob_names("t")) == MOST_MEMBERS + 5


def test_a_member_that_fails_takes_back_its_own_work_alone(store: SqlStore) -> None:
    works = [
        put("a"),
        failing("lost", ValueError("mine")),
        put("b"),
        put("a"),  # the name is taken: an error of the database
        put("c"),
    ]
    with commits(store.database) as seen:
        futures = together(store.database, works)
    assert [type(future.exception()).__name__ for future in futures] == [
        "NoneType",
        "ValueError",
        "NoneType",
        "Internal",
        "NoneType",
    ]
    assert store.blob_names("t") == ["a", "b", "c"]
    assert seen == ["commit", "commit"]


def test_a_commit_that_fails_fails_every_member(store: SqlStore) -> None:
    """As a full disk does at the last moment: nobody is acknowledged, no hook runs, nothing is there."""
    heard: list[str] = []
    armed = threading.Event()

    def full(connection: Any) -> None:
        if armed.is_set():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorname = "SQLITE_FULL"
            raise OperationalError("COMMIT", (), error)

    def arm(transaction: WriteTransaction) -> None:
        put("b")(transaction)
        transaction.after.append(lambda: heard.append("b"))
        armed.set()

    event.listen(store.database._write_engine, "commit", full)
    with commits(store.database) as seen:
        futures = together(store.database, [put("a"), arm, put("c")])
    assert all(isinstance(future.exception(), ResourceExhausted) for future in futures)
    assert len({id(future.exception()) for future in futures}) == 3  # each its own, with its own traceback
    assert (store.blob_names("t"), heard, seen) == ([], [], ["commit"])
    armed.clear()
    store.database.write(put("d"))
    assert store.blob_names("t") == ["d"]


def test_a_member_that_ends_the_whole_transaction_harms_no_neighbour(store: SqlStore) -> None:
    """Some errors make SQLite roll everything back: the others are run again, one by one."""
    raw(
        store,
        "CREATE TRIGGER fault BEFORE INSERT ON blobs WHEN NEW.name = 'bad'"
        " BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END",
    )
    hooks: list[str] = []

    def hooked(name: str) -> Work:
        def work(transaction: WriteTransaction) -> str:
            transaction.after.append(lambda: hooks.append(name))
            return str(put(name)(transaction))

        return work

    futures = together(store.database, [hooked("a"), put("bad"), hooked("b")])
    assert futures[0].result() == "a"
    assert futures[2].result() == "b"
    assert "all of it" in str(futures[1].exception())
    assert store.blob_names("t") == ["a", "b"]
    assert hooks == ["a", "b"]


def test_hooks_run_in_commit_order_before_anybody_is_acknowledged(store: SqlStore) -> None:
    order: list[str] = []

    def hooked(name: str) -> Work:
        def work(transaction: WriteTransaction) -> None:
            put(name)(transaction)
            transaction.after.append(lambda: order.append(f"{name} of {len(store.blob_names('t'))}"))

        return work

    together(store.database, [hooked(name) for name in "abc"])
    assert order == ["a of 3", "b of 3", "c of 3"]  # committed, all of them, when the first hook runs


def test_a_lone_writer_uses_no_savepoint(store: SqlStore) -> None:
    statements: list[str] = []
    event.listen(
        store.database._write_engine,
        "before_cursor_execute",
        lambda *given: statements.append(str(given[2])),
    )
    store.database.write(put("a"))
    assert not [text for text in statements if "SAVEPOINT" in text]
    together(store.database, [put("b"), put("c")])
    assert len([text for text in statements if text.startswith("SAVEPOINT")]) == 2


def test_an_action_alone_shares_with_nobody(store: SqlStore) -> None:
    """Between transactions, e.g. a vacuum: those before and behind it commit apart from it."""
    entered, go = threading.Event(), threading.Event()
    database = store.database

    def hold(_: WriteTransaction) -> None:
        entered.set()
        assert go.wait(30)

    with commits(database) as seen, ThreadPoolExecutor(5) as pool:
        pool.submit(database.write, hold)
        assert entered.wait(30)
        waiting = database._group._waiting
        pool.submit(database.write, put("a"))
        until(lambda: len(waiting) == 1)
        alone = pool.submit(database.alone, lambda connection: (len(seen), store.blob_names("t")))
        until(lambda: len(waiting) == 2)
        pool.submit(database.write, put("b"))
        until(lambda: len(waiting) == 3)
        go.set()
        assert alone.result(30) == (2, ["a"])
    assert seen == ["commit"] * 3


def test_close_waits_for_those_who_came_before_and_refuses_the_rest(store: SqlStore) -> None:
    entered, go = threading.Event(), threading.Event()

    def hold(transaction: WriteTransaction) -> None:
        entered.set()
        assert go.wait(30)
        put("first")(transaction)

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(store.database.write, hold)
        assert entered.wait(30)
        second = pool.submit(store.database.write, put("second"))
        until(lambda: len(store.database._group._waiting) == 1)
        closing = pool.submit(store.database.close)
        until(lambda: store.database._group._closed)
        with pytest.raises(Unavailable, match="closed"):
            store.database.write(put("third"))
        assert not closing.done()
        go.set()
        first.result(30)
        second.result(30)
        closing.result(30)


class Stop(BaseException):
    """As an interrupt: no Exception."""


def test_a_leader_that_is_interrupted_leaves_nobody_waiting(store: SqlStore) -> None:
    """Those it had taken along are told that they are not acknowledged; those behind get a new leader."""

    def stop(_: WriteTransaction) -> None:
        raise Stop

    with commits(store.database) as seen:
        futures = together(store.database, [stop, put("a"), put("b")])
    assert isinstance(futures[0].exception(), (Stop, Unavailable))
    assert [type(future.exception()) for future in futures[1:]] == [Unavailable, Unavailable]
    assert store.blob_names("t") == []
    assert seen == ["commit", "rollback"]
    store.database.write(put("c"))
    assert store.blob_names("t") == ["c"]


def test_a_follower_that_is_interrupted_leaves_the_others_a_leader() -> None:
    """Its thread gets an interrupt while it waits, in each of the three states that it can be in."""
    executed: list[list[str]] = []
    group = GroupCommit(lambda batch: execute(batch))

    def execute(batch: Sequence[Member[Any]]) -> None:
        executed.append([member.work(None) for member in batch])
        for member in batch:
            member.settle(None)

    # Still in the queue: it is taken out of it.
    group._led = True  # somebody leads
    gone, other = Member(lambda _: "gone"), Member(lambda _: "other")
    group._waiting.extend([gone, other])
    group._abandon(gone)
    assert list(group._waiting) == [other]
    # Made the next leader: it leads before it goes, so that the other is executed.
    group._waiting.appendleft(gone)
    group._hand_over()
    assert gone.heir
    group._abandon(gone)
    assert executed == [["gone", "other"]]
    assert not group._led
    # Taken along by a leader: that one decides.
    executed.clear()
    group._abandon(gone2 := Member(lambda _: "decided elsewhere"))
    assert executed == []
    assert not gone2.settled
    group.submit(Member(lambda _: "last"))
    assert executed == [["last"]]


def test_writers_of_all_kinds_at_once(store: SqlStore) -> None:
    """Eight threads; every third write is refused half way. What was acknowledged, and nothing else, is
    there, and fewer commits than writes were needed."""
    generation(store)
    acknowledged: list[str] = []

    def run(writer: int) -> None:
        for step in range(30):
            name = f"{writer}-{step}"
            if step % 3 == 2:
                with pytest.raises(ValueError, match="refused"):
                    store.database.write(failing(name, ValueError("refused")))
            else:
                store.write_items([write(name, {1: 1.0})])
                acknowledged.append(name)

    with commits(store.database) as seen, ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert len(acknowledged) == 8 * 20
    assert store.live_items() == 160
    assert store.head(0) == 160
    assert store.blob_names("t") == []
    assert all(store.get_item(name) is not None for name in acknowledged)
    assert store.verify() == []
    assert len(seen) < 8 * 30


# One letter per member: does it write, fail, fail in the database, or end the whole transaction?
@given(kinds=st.lists(st.sampled_from("wfdr"), min_size=1, max_size=9))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_whoever_meets_whom_each_gets_its_own_outcome(kinds: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="group-") as folder:
        database = _table(Path(folder))
        works: list[Work] = [
            {
                "w": put(f"{place}"),
                "f": failing(f"{place}", ValueError(str(place))),
                "d": put("taken"),
                "r": put("rollback"),
            }[kind]
            for place, kind in enumerate(kinds)
        ]
        outcomes = [future.exception() for future in together(database, works)]
        assert [error is None for error in outcomes] == [kind == "w" for kind in kinds]
        assert all(
            isinstance(outcomes[place], ValueError) for place in range(len(kinds)) if kinds[place] == "f"
        )
        with database.read() as connection:
            found = set(connection.exec_driver_sql("SELECT name FROM blobs").scalars())
        assert found == {"taken", *(str(place) for place, kind in enumerate(kinds) if kind == "w")}
        database.close()


def _table(folder: Path) -> Database:
    """A database of one table."""
    database = Database(folder / "t.sqlite", "os")

    def create(transaction: WriteTransaction) -> None:
        run = transaction.connection.exec_driver_sql
        run("CREATE TABLE blobs (kind, name PRIMARY KEY, value)")
        run("INSERT INTO blobs VALUES ('t', 'taken', x'00')")
        run(
            "CREATE TRIGGER fault BEFORE INSERT ON blobs WHEN NEW.name = 'rollback'"
            " BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END"
        )

    database.write(create)
    return database
