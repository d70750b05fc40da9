"""Backups: a consistent copy of the store and the newest snapshots, taken while everything goes on.

What a backup holds::

    store.sqlite                     one committed state of the database, in one file
    snapshots/g1-s0/4711.ecx         for each index its newest snapshot, if there is one
    manifest.json                    written last: without it this is no backup

The manifest names every file with its size and SHA-256, says what the store held (schema version, shards,
heads, generations with their fingerprints), and carries a digest of itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import select

from embedcore.errors import DataLoss
from embedcore.store import schema, verify
from embedcore.store.backup_folder import BackupFolder, FileEntry, file_entry
from embedcore.store.connection import Database, read_file
from embedcore.store.dialect import copy_database
from embedcore.store.files import sync_file
from embedcore.store.generations import read_generations
from embedcore.store.interface import LogPruned
from embedcore.store.items import count_live
from embedcore.store.sql_store import DATABASE_FILE, SqlStore

MANIFEST: Final = "manifest.json"
FORMAT: Final = "embedcore-backup/1"
_SCRATCH: Final = "backup-"

_logger = logging.getLogger(__name__)

# What is being done, how much of it, of how much; bytes.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """An index's newest snapshot: a cache, without which a restored directory opens all the same."""

    generation: int
    shard: int
    watermark: int
    path: Path

    @property
    def name(self) -> str:
        return f"snapshots/g{self.generation}-s{self.shard}/{self.path.name}"


def write_backup(
    store: SqlStore,
    destination: str,
    snapshots: Sequence[SnapshotFile] = (),
    *,
    version: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes a backup to a directory or an fsspec URL, empty or not there yet; returns its manifest.

    Writers and readers go on; the log that the snapshots need is held meanwhile. When it fails, what was
    written is removed, and in no case is there a manifest over an incomplete backup. ``problems`` of the
    manifest lists the broken invariants of what was copied; empty is good.

    Raises InvalidArgument for a destination that cannot be, FailedPrecondition for one that is not empty,
    Unavailable or ResourceExhausted when it cannot be written, DataLoss when the copy is not what was read.
    """
    folder = BackupFolder.create(destination)
    report = progress or (lambda what, done, total: None)
    holds = f"backup/{uuid4().hex[:12]}"
    try:
        entries = []
        for snapshot in snapshots:
            try:
                store.hold(f"{holds}/{snapshot.name}", snapshot.shard, snapshot.watermark)
                entries.append(folder.put(snapshot.name, snapshot.path, report))
            except LogPruned:
                continue  # it cannot be replayed any more, here or there
            except FileNotFoundError:
                _logger.info("snapshot %s was replaced meanwhile: left out of the backup", snapshot.path)
        # After the snapshots, so that none of them is ahead of it.
        entry, described = _put_database(store, folder, report)
        manifest = {
            "format": FORMAT,
            "embedcore": version,
            "created_at": store.now(),
            **described,
            "files": [one.document() for one in (entry, *entries)],
        }
        sealed = {**manifest, "digest": digest_of(manifest)}
        folder.finish(MANIFEST, json.dumps(sealed, indent=1).encode())
        return sealed
    except BaseException:
        folder.discard()
        raise
    finally:
        for snapshot in snapshots:
            store.release(f"{holds}/{snapshot.name}")


def digest_of(manifest: dict[str, Any]) -> str:
    """SHA-256 over the manifest without its own digest, in one spelling."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _put_database(
    store: SqlStore, folder: BackupFolder, report: Progress
) -> tuple[FileEntry, dict[str, Any]]:
    """The copy is made where it stays if that is a directory here, else beside the store and then sent."""
    if folder.local is not None:
        path = folder.reserve(DATABASE_FILE)
        described = _copy(store.database, path, report)
        sync_file(path)
        return file_entry(DATABASE_FILE, path), described
    for left in store.data_dir.glob(f"{_SCRATCH}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=store.data_dir) as scratch:
        path = Path(scratch) / DATABASE_FILE
        described = _copy(store.database, path, report)
        return folder.put(DATABASE_FILE, path, report), described


def _copy(database: Database, path: Path, report: Progress) -> dict[str, Any]:
    with database.read() as connection:
        copy_database(connection, path, lambda done, total: report("copying the store", done, total))
    with closing(sqlite3.connect(path)) as copy:
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        copy.execute("DELETE FROM holds WHERE name LIKE 'backup/%'")
        copy.commit()
    return describe(path)


def describe(path: Path) -> dict[str, Any]:
    """What a copy of a store holds, and all that is wrong with it. DataLoss when it cannot be read at all."""
    with read_file(path) as connection:
        check = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if check != "ok":
            raise DataLoss(f"{path} is damaged ({check}): use another backup")
        shards = connection.execute(select(schema.shards).order_by(schema.shards.c.shard)).all()
        return {
            "schema_version": schema.SCHEMA_VERSION,
            "shards": len(shards),
            "heads": {str(row.shard): row.sequence for row in shards},
            "live_items": count_live(connection),
            "generations": [
                {
                    "number": generation.number,
                    "model": generation.model,
                    "state": generation.state,
                    "fingerprint": generation.fingerprint.digest,
                }
                for generation in read_generations(connection)
            ],
            "problems": verify.find_problems(connection),
        }
