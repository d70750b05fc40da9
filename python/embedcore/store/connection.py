"""One database of one process: a single writing connection with group commit, and readers beside it.

Guarantees: writes are serialised. Those that meet share one commit, each in a savepoint of its own, so that
one that fails is rolled back alone; when the commit itself fails, all of them have failed and nothing is
written. ``after`` hooks run once the commit is durable, before the next one begins and in commit order, so
whoever listens sees commits in order. A read transaction sees one snapshot and never waits for a writer
(write-ahead log).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection

from embedcore.errors import ResourceExhausted, Unavailable
from embedcore.failpoints import failpoint
from embedcore.store.dialect import (
    DATABASE_ERRORS,
    Durability,
    end_transaction,
    fold_log,
    folding_connection,
    in_transaction,
    release_pages,
    sqlite_engine,
    translate,
)
from embedcore.store.group_commit import GroupCommit, Member
from embedcore.store.log_folding import LogFolding

T = TypeVar("T")

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class WriteTransaction:
    """What a write works with. Hooks must be quick and must not write to the store; what one raises is
    logged, since the write is committed."""

    connection: Connection
    after: list[Callable[[], None]] = field(default_factory=list)  # run in order once committed


class _TransactionLost(Exception):
    """The database ended the whole transaction because of one member."""


class Database:
    """Connections to one SQLite file. All methods may be called from any thread."""

    def __init__(self, path: Path, durability: Durability = "fsync", *, read_only: bool = False) -> None:
        """Opens or creates the file. Unavailable when it cannot be written, DataLoss when damaged,
        ResourceExhausted when the disk has no room for what lies beside an open file. ``read_only`` needs
        none: readers take turns then, and writes are refused."""
        self.path = path
        self.read_only = read_only
        self.durability: Durability = durability
        self._group = GroupCommit(self._commit)
        self._writing_thread = 0
        self._closed = False
        self._write_engine = sqlite_engine(path, writer=True, durability=durability)
        self._read_engine = sqlite_engine(path, writer=False, alone=read_only)
        self._folding = LogFolding(
            path, lambda: folding_connection(path, durability), lambda: self.alone(fold_log)
        )
        if read_only:
            return
        try:
            # One connection for good: its statement and page caches stay warm.
            self._writer = self._write_engine.connect()
        except DATABASE_ERRORS as error:
            self._write_engine.dispose()
            raise translate(error, path) from error

    def write(self, work: Callable[[WriteTransaction], T], weight: int = 1) -> T:
        """Runs ``work`` in a transaction and returns what it returned once that is durable; when it raises,
        all it did is undone. ``weight``: rows it writes, roughly.

        ``work`` may run on another writer's thread, and again from the start when a neighbour broke the
        transaction: it must do everything through its transaction.
        """
        return self._submit(Member(work, weight))

    def alone(self, action: Callable[[Connection], T]) -> T:
        """Runs ``action`` on the writing connection outside any transaction, while all writers wait."""
        return self._submit(Member(action, alone=True))

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot of the committed state; nothing can be written through it."""
        if self._closed:
            raise Unavailable(f"the store {self.path} is closed: open it again")
        try:
            with self._read_engine.connect() as connection, connection.begin():
                yield connection
        except DATABASE_ERRORS as error:
            raise translate(error, self.path) from error

    def release_pages(self, pages: int = 2048) -> None:
        """Returns up to ``pages`` unused pages to the file system; other writers wait meanwhile."""
        self.alone(lambda connection: release_pages(connection, pages, self.path))

    def close(self) -> None:
        """Waits for the writers in progress. Later calls raise Unavailable; closing twice does nothing."""
        self._closed = True
        self._folding.stop()
        if self._group.close():
            self._folding.close()
            if not self.read_only:
                self._writer.close()
            self._write_engine.dispose()
            self._read_engine.dispose()

    def _submit(self, member: Member[T]) -> T:
        if self._writing_thread == threading.get_ident():
            raise RuntimeError("a write transaction was begun inside another: a commit hook must not write")
        if self.read_only and not self._closed:
            raise ResourceExhausted(
                f"{self.path} was opened on a full disk, for reading only: nothing was written; free disk"
                " space and open it again"
            )
        return self._group.submit(member)

    # On the leader's thread.

    def _commit(self, batch: Sequence[Member[Any]]) -> None:
        self._writing_thread = threading.get_ident()
        try:
            if batch[0].alone:
                self._settle(batch[0], lambda: batch[0].work(self._writer))
            elif len(batch) == 1:
                self._commit_one(batch[0])
            else:
                self._commit_shared(batch)
            self._folding.look()
        finally:
            self._writing_thread = 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._writer.begin():
                yield
                failpoint("store-before-commit")
            failpoint("store-after-commit")
        finally:
            # A COMMIT that failed leaves the transaction open, and SQLAlchemy takes it for ended.
            end_transaction(self._writer)

    def _commit_one(self, member: Member[Any]) -> None:
        transaction = WriteTransaction(self._writer)

        def run() -> Any:
            with self._transaction():
                return member.work(transaction)

        if self._settle(member, run):
            _run_hooks(transaction)

    def _commit_shared(self, batch: Sequence[Member[Any]]) -> None:
        done: list[tuple[Member[Any], Any, WriteTransaction]] = []
        try:
            with self._transaction():
                for member in batch:
                    transaction = WriteTransaction(self._writer)
                    if self._run_member(member, transaction, done) and not in_transaction(self._writer):
                        raise _TransactionLost
        except _TransactionLost:
            # The neighbours did nothing wrong: each gets a transaction of its own.
            for member in batch:
                if not member.settled:
                    self._commit_one(member)
            return
        except DATABASE_ERRORS as error:
            for member in batch:
                if not member.settled:
                    member.fail(translate(error, self.path))
            return
        for member, result, _ in done:
            member.settle(result)
        for _, _, transaction in done:
            _run_hooks(transaction)

    def _run_member(
        self,
        member: Member[Any],
        transaction: WriteTransaction,
        done: list[tuple[Member[Any], Any, WriteTransaction]],
    ) -> bool:
        """Runs a member in its savepoint; True when it failed, and all it did is undone."""
        run = self._writer.exec_driver_sql
        run("SAVEPOINT member")
        try:
            result = member.work(transaction)
        except Exception as error:
            member.fail(self._translated(error))
            if in_transaction(self._writer):
                run("ROLLBACK TO member")
                run("RELEASE member")
            return True
        run("RELEASE member")
        done.append((member, result, transaction))
        return False

    def _settle(self, member: Member[Any], action: Callable[[], Any]) -> bool:
        try:
            member.settle(action())
        except Exception as error:
            member.fail(self._translated(error))
            return False
        return True

    def _translated(self, error: Exception) -> Exception:
        if not isinstance(error, DATABASE_ERRORS):
            return error
        translated = translate(error, self.path)
        translated.__cause__ = error
        return translated


@contextmanager
def read_file(path: Path) -> Iterator[Connection]:
    """One read transaction over a database that no process has open; the file is not written to."""
    engine = sqlite_engine(path, writer=False)
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except DATABASE_ERRORS as error:
        raise translate(error, path) from error
    finally:
        engine.dispose()


def _run_hooks(transaction: WriteTransaction) -> None:
    for hook in transaction.after:
        try:
            hook()
        except Exception:
            _logger.exception("a hook after a commit failed; the write is committed")
