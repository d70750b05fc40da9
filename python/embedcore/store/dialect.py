"""Everything that depends on the database at hand: pragmas, upserts and what its errors mean.

SQLite is the one here; another database adds its branch to these functions and to nothing else.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import Connection, Engine, Table, bindparam, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from embedcore.errors import DataLoss, EmbedcoreError, Internal, ResourceExhausted, Unavailable
from embedcore.store.log_folding import fold

# Five 384-d float32 vectors a page; pages of 4 KiB would waste a fifth of the file.
_PAGE_BYTES = 8192
# A writer folds the write-ahead log into the file at 32 MiB, if it ever gets there: see log_folding.py.
_CHECKPOINT_PAGES = 4096
# Pages a backup copies in one go: 32 MiB, between two reports of its progress.
_COPIED_PAGES = 4096

# When a commit returns: "fsync": it is on stable storage. "os": the operating system has it, so it outlives
# the process, not a loss of power. See docs/durability.md.
Durability = Literal["fsync", "os"]
DURABILITIES: Final[tuple[Durability, ...]] = ("fsync", "os")
_SYNCHRONOUS: Final[Mapping[Durability, str]] = {
    "fsync": "FULL",  # the write-ahead log is synced by every commit
    "os": "NORMAL",  # it is synced before it is folded into the file: no order of writes can damage that
}

# What the database raises: through SQLAlchemy, and where its driver is called as it is. See translate.
DATABASE_ERRORS: Final = (DBAPIError, sqlite3.Error)


def sqlite_engine(
    path: Path, *, writer: bool, durability: Durability = "fsync", alone: bool = False
) -> Engine:
    """An engine over one SQLite file; transactions of a writer take the write lock when they begin.

    A reader's connections refuse to write. ``alone``: one connection, the only one of this file, which keeps
    in memory what several would share in a file beside it. The engine may be used from any thread.
    """
    one = writer or alone
    engine = create_engine(
        f"sqlite+pysqlite:///{path}",
        poolclass=QueuePool,
        pool_size=1 if one else 8,
        max_overflow=0 if one else -1,
        pool_timeout=600.0,
        connect_args={"check_same_thread": False, "timeout": 5.0},
    )

    def prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
        try:
            settings(connection)
        except sqlite3.Error:
            connection.close()  # its locks would outlive the attempt
            raise

    def settings(connection: sqlite3.Connection) -> None:
        # Transactions are begun by the event below, never by the driver in the middle of one.
        connection.isolation_level = None
        run = connection.execute
        if alone:
            run("PRAGMA locking_mode=EXCLUSIVE")
        if writer:
            if run("PRAGMA page_count").fetchone() == (0,):  # setting them again would write to the file
                run(f"PRAGMA page_size={_PAGE_BYTES}")
                run("PRAGMA auto_vacuum=INCREMENTAL")
            run("PRAGMA journal_mode=WAL")
            run(f"PRAGMA synchronous={_SYNCHRONOUS[durability]}")
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


def folding_connection(path: Path, durability: Durability) -> sqlite3.Connection:
    """A connection to fold the log with, for one thread; it syncs as a writer's would."""
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None)
    connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS[durability]}")
    return connection


def insert(table: Table, columns: Sequence[str]) -> sqlite.Insert:
    """INSERT of the named columns, each value a bind parameter of its name."""
    return sqlite.insert(table).values({name: bindparam(name) for name in columns})


def upsert(table: Table, columns: Sequence[str], keys: Sequence[str], update: Sequence[str]) -> sqlite.Insert:
    """The same; where ``keys`` exist, ``update`` is set to the new values."""
    statement = insert(table, columns)
    given = statement.excluded
    return statement.on_conflict_do_update(index_elements=keys, set_={name: given[name] for name in update})


def copy_database(connection: Connection, target: Path, report: Callable[[int, int], None]) -> None:
    """Copies what this read transaction sees into a new file, while writers go on. ``report``: bytes done and
    in all. The file is not synced."""
    source = _driver(connection)
    # The transaction sees its snapshot from its first read on; the copy, in steps, reads that one snapshot.
    size = source.execute("PRAGMA page_size").fetchone()[0]
    source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    try:
        with closing(sqlite3.connect(target)) as copy:
            copy.execute("PRAGMA synchronous=OFF")
            source.backup(
                copy,
                pages=_COPIED_PAGES,
                progress=lambda _, left, total: report((total - left) * size, total * size),
            )
    except sqlite3.Error as error:
        raise translate(error, target) from error


def in_transaction(connection: Connection) -> bool:
    """Whether the database still has the transaction open: some errors, a full disk, end it all."""
    return _driver(connection).in_transaction


def end_transaction(connection: Connection) -> None:
    """Rolls back what the database still has open; usually nothing."""
    driver = _driver(connection)
    if driver.in_transaction:
        driver.rollback()


def fold_log(connection: Connection) -> tuple[int, int]:
    """See :func:`embedcore.store.log_folding.fold`; no transaction may be open."""
    return fold(_driver(connection))


def release_pages(connection: Connection, pages: int, path: Path) -> None:
    """Gives up to ``pages`` unused pages of the file back to the file system; no transaction may be open."""
    driver = _driver(connection)
    try:
        # A script, because execute would stop after the first page: the pragma yields once per page.
        driver.executescript(f"PRAGMA incremental_vacuum({int(pages)})")
    except sqlite3.Error as error:
        raise translate(error, path) from error


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def translate(error: DBAPIError | sqlite3.Error, path: Path) -> EmbedcoreError:
    """The error of embedcore for an error of the database, in one line that says what to do."""
    original = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(original, "sqlite_errorname", "") or type(original).__name__
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")):
        return ResourceExhausted(f"no space left for {path}: nothing was written; free disk space and retry")
    if name.startswith("SQLITE_CANTOPEN") and not _can_open():
        return ResourceExhausted(
            f"no file descriptor is left to open {path}: close connections, or raise `ulimit -n`, and retry"
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return Unavailable(f"{path} cannot be written ({original}): make its directory writable and retry")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable(f"{path} is locked by another process ({original}): close that process and retry")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DataLoss(f"{path} is damaged ({original}): restore it from a backup")
    if name.startswith("SQLITE_IOERR"):
        return DataLoss(f"the disk failed under {path} ({original}, {name}): check the disk, then reopen")
    return Internal(f"the database refused a statement of embedcore ({name}: {original}): please report it")


def _can_open() -> bool:
    """Whether this process can open one more file: SQLite does not say why it could not."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True
