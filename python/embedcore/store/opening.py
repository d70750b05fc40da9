"""Opens a data directory: takes ownership, then creates or checks the store inside."""

from __future__ import annotations

from pathlib import Path

from embedcore.clock import Clock
from embedcore.store.connection import Database
from embedcore.store.creation import create_or_check
from embedcore.store.ownership import Ownership
from embedcore.store.sql_store import DATABASE_FILE, SqlStore


def open_store(
    data_dir: Path | str,
    clock: Clock,
    *,
    shards: int | None = None,
    simulated: bool | None = None,
    ownership: Ownership | None = None,
) -> SqlStore:
    """The store of a data directory, created when it is not there yet.

    shards: a power of two, fixed at creation; None takes what the store has (1 when new). simulated: the
    mark that allows scaled time, fixed at creation; None takes what the store has (False when new).
    ownership: already acquired by this process for this directory; the store's close releases it.

    Raises DirectoryOwned when a live process owns the directory (``error.owner`` says where its server
    listens), FailedPrecondition when the store was created otherwise or by a newer embedcore,
    InvalidArgument for an impossible shard count, Unavailable when the directory cannot be written, DataLoss
    when the file is damaged. Nothing stays open then.
    """
    if ownership is None:
        ownership = Ownership.acquire(data_dir)
    try:
        database = Database(ownership.data_dir / DATABASE_FILE)
        try:
            marks = create_or_check(database, shards, simulated, clock.now())
            return SqlStore(ownership, database, marks, clock)
        except BaseException:
            database.close()
            raise
    except BaseException:
        ownership.release()
        raise
