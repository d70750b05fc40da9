"""Opens a data directory: takes ownership, then creates or checks the store inside."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from embedcore.clock import Clock
from embedcore.errors import InvalidArgument, ResourceExhausted
from embedcore.resources import ResourceProbe, SystemProbe
from embedcore.store.connection import Database
from embedcore.store.core import Core
from embedcore.store.creation import create_or_check
from embedcore.store.dialect import DURABILITIES, Durability
from embedcore.store.files import sync_directory
from embedcore.store.ownership import Ownership
from embedcore.store.reserve import Reserve, ReserveSettings
from embedcore.store.sql_store import DATABASE_FILE, SqlStore

_logger = logging.getLogger(__name__)


def open_store(
    data_dir: Path | str,
    clock: Clock,
    *,
    shards: int | None = None,
    simulated: bool | None = None,
    ownership: Ownership | None = None,
    durability: Durability = "fsync",
    reserve: ReserveSettings | None = None,
    probe: ResourceProbe | None = None,
) -> SqlStore:
    """The store of a data directory, created when it is not there yet.

    shards: a power of two, fixed at creation; None takes what the store has (1 when new). simulated: the
    mark that allows scaled time, fixed at creation; None takes what the store has (False when new).
    ownership: already acquired by this process for this directory; the store's close releases it.
    durability: "fsync", or "os" (see docs/durability.md). reserve: what writes leave free of disk and
    memory, measured by ``probe`` (this machine). A store of an older schema is upgraded. One on a disk
    that is full to the last byte is opened for reading only.

    Raises DirectoryOwned when a live process owns the directory (``error.owner`` says where its server
    listens), FailedPrecondition when the store was created otherwise or by a newer embedcore,
    InvalidArgument for an impossible shard count, Unavailable when the directory cannot be written, DataLoss
    when the file is damaged. Nothing stays open then.
    """
    if durability not in DURABILITIES:
        raise InvalidArgument(f"durability must be one of {', '.join(DURABILITIES)}, got {durability!r}")
    began = time.monotonic()
    if ownership is None:
        ownership = Ownership.acquire(data_dir)
    try:
        database = _open(ownership.data_dir / DATABASE_FILE, durability)
        try:
            marks = create_or_check(database, shards, simulated, clock.now())
            sync_directory(ownership.data_dir)
            with suppress(PermissionError):  # a parent that may not be read was not made here
                sync_directory(ownership.data_dir.absolute().parent)
            kept = ReserveSettings(0, 0) if database.read_only else reserve or ReserveSettings()
            guard = Reserve(kept, probe or SystemProbe(ownership.data_dir))
            return SqlStore(Core(ownership, database, marks, clock, guard, time.monotonic() - began))
        except BaseException:
            database.close()
            raise
    except BaseException:
        ownership.release()
        raise


def _open(path: Path, durability: Durability) -> Database:
    try:
        return Database(path, durability)
    except ResourceExhausted:
        if not (path.exists() and path.stat().st_size):
            raise
    _logger.warning(
        "%s: the disk is full to the last byte: reads and searches work; writes, deletes, snapshots and"
        " migrations do not until there is room and it is opened again",
        path,
    )
    return Database(path, durability, read_only=True)
