"""Everything that depends on the database at hand: pragmas, upserts and what its errors mean.

SQLite is the one here; another database adds its branch to these functions and to nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from embedcore.errors import DataLoss, EmbedcoreError, Internal, ResourceExhausted, Unavailable

# Five 384-d float32 vectors a page; pages of 4 KiB would waste a fifth of the file.
_PAGE_BYTES = 8192
# The write-ahead log is folded into the file every 32 MiB: amortises the checkpoint's two fsyncs.
_CHECKPOINT_PAGES = 4096


def sqlite_engine(path: Path, *, writer: bool) -> Engine:
    """An engine over one SQLite file; transactions of a writer take the write lock when they begin.

    A reader's connections refuse to write. The engine may be used from any thread.
    """
    engine = create_engine(
        f"sqlite+pysqlite:///{path}",
        poolclass=QueuePool,
        pool_size=1 if writer else 8,
        max_overflow=0 if writer else -1,
        connect_args={"check_same_thread": False, "timeout": 5.0},
    )

    def prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        # Transactions are begun by the event below, never by the driver in the middle of one.
        connection.isolation_level = None
        run = connection.execute
        if writer:
            run(f"PRAGMA page_size={_PAGE_BYTES}")
            run("PRAGMA auto_vacuum=INCREMENTAL")
            run("PRAGMA journal_mode=WAL")
            run("PRAGMA synchronous=FULL")  # WAL default: a commit that returned could be lost with the power
            run(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            run("PRAGMA journal_size_limit=67108864")
            run("PRAGMA foreign_keys=ON")
            run("PRAGMA cache_size=-65536")
        else:
            run("PRAGMA query_only=ON")
            run("PRAGMA cache_size=-16384")

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[Column[Any]],
    update: Sequence[Column[Any]],
) -> None:
    """Inserts the rows; where ``keys`` exist, sets ``update`` to the new values. No rows: nothing."""
    if not rows:
        return
    statement = sqlite.insert(table)
    given = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[key.name for key in keys],
            set_={column.name: given[column.name] for column in update},
        ),
        list(rows),
    )


def release_pages(connection: Connection, pages: int, path: Path) -> None:
    """Gives up to ``pages`` unused pages of the file back to the file system; no transaction may be open."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    try:
        # A script, because execute would stop after the first page: the pragma yields once per page.
        driver.executescript(f"PRAGMA incremental_vacuum({int(pages)})")
    except sqlite3.Error as error:
        raise translate(error, path) from error


def translate(error: DBAPIError | sqlite3.Error, path: Path) -> EmbedcoreError:
    """The error of embedcore for an error of the database, in one line that says what to do."""
    original = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(original, "sqlite_errorname", "") or type(original).__name__
    if name.startswith("SQLITE_FULL"):
        return ResourceExhausted(f"no space left for {path}: nothing was written; free disk space and retry")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return Unavailable(f"{path} cannot be written ({original}): make its directory writable and retry")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable(f"{path} is locked by another process ({original}): close that process and retry")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DataLoss(f"{path} is damaged ({original}): restore it from a backup")
    if name.startswith("SQLITE_IOERR"):
        return DataLoss(f"the disk failed under {path} ({original}, {name}): check the disk, then reopen")
    return Internal(f"the database refused a statement of embedcore ({name}: {original}): please report it")
