"""One database of one process: a single writer under a lock, and read transactions beside it.

Guarantees: writes are serialised, and ``after`` hooks run after the commit and before the next writer, so
whoever listens sees commits in order. A read transaction sees one snapshot and never waits for the writer
(write-ahead log).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from embedcore.errors import Unavailable
from embedcore.failpoints import failpoint
from embedcore.store.dialect import release_pages, sqlite_engine, translate


@dataclass(slots=True)
class WriteTransaction:
    """What a write works with. Hooks must be quick, must not raise and must not write to the store."""

    connection: Connection
    after: list[Callable[[], None]] = field(default_factory=list)  # run in order once committed


class Database:
    """Connections to one SQLite file. All methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. Unavailable when it cannot be written, DataLoss when damaged."""
        self.path = path
        self._lock = threading.Lock()
        self._writing_thread = 0
        self._closed = False
        self._write_engine = sqlite_engine(path, writer=True)
        self._read_engine = sqlite_engine(path, writer=False)
        try:
            # One connection for good: its statement and page caches stay warm.
            self._writer = self._write_engine.connect()
        except DBAPIError as error:
            self._write_engine.dispose()
            raise translate(error, path) from error

    @contextmanager
    def write(self) -> Iterator[WriteTransaction]:
        """One durable transaction: committed with fsync when the block ends, gone when it raises."""
        if self._writing_thread == threading.get_ident():
            raise RuntimeError("a write transaction was begun inside another: a commit hook must not write")
        with self._lock:
            self._check_open()
            self._writing_thread = threading.get_ident()
            try:
                transaction = WriteTransaction(self._writer)
                try:
                    with self._writer.begin():
                        yield transaction
                        failpoint("store-before-commit")
                except DBAPIError as error:
                    raise translate(error, self.path) from error
                failpoint("store-after-commit")
                for hook in transaction.after:
                    hook()
            finally:
                self._writing_thread = 0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot of the committed state; nothing can be written through it."""
        self._check_open()
        try:
            with self._read_engine.connect() as connection, connection.begin():
                yield connection
        except DBAPIError as error:
            raise translate(error, self.path) from error

    def release_pages(self, pages: int = 2048) -> None:
        """Returns up to ``pages`` unused pages to the file system; other writers wait meanwhile."""
        with self._lock:
            self._check_open()
            release_pages(self._writer, pages, self.path)

    def close(self) -> None:
        """Waits for the writer in progress. Later calls raise Unavailable; closing twice does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._writer.close()
            self._write_engine.dispose()
            self._read_engine.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the store {self.path} is closed: open it again")
