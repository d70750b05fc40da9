"""From one schema version to the next, and back by one: each step is one transaction.

A store is brought to the present version when it is opened. :func:`downgrade` takes it back by one version,
for whoever has to return to the embedcore before: what the older version cannot express is said in the step.
Steps speak SQL of their own and never use the tables of schema.py, which are those of the present version.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection

from embedcore.errors import DataLoss, FailedPrecondition
from embedcore.hashing import shard_of
from embedcore.store.checksum import item_digest, to_signed
from embedcore.store.connection import Database, WriteTransaction
from embedcore.store.schema import SCHEMA_VERSION

_logger = logging.getLogger(__name__)

# A name that v1 gets in place of a tombstone that was pruned, so that no number is given out twice.
_RESERVED_ID: Final = "embedcore-reserved-{}"


class Step(NamedTuple):
    """Between version n and n + 1."""

    up: Callable[[Connection], None]
    down: Callable[[Connection], None]


def read_version(connection: Connection) -> int:
    """DataLoss when the mark is missing or no number."""
    value = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'schema_version'").scalar()
    if value is None or not str(value).isdecimal():
        raise DataLoss(f"the store's schema version is {value!r}: restore it from a backup")
    return int(value)


def upgrade(database: Database) -> None:
    """Brings the store to the present version, one transaction per step; a crash between two leaves a whole
    store of a version in between. FailedPrecondition for one of a newer embedcore, which is not touched."""
    with database.read() as connection:
        version = read_version(connection)
    if version > SCHEMA_VERSION:
        raise FailedPrecondition(
            f"{database.path} has schema version {version}, this embedcore knows up to {SCHEMA_VERSION}:"
            " upgrade embedcore, or go back with the newer one's `embedcore schema --to"
            f" {SCHEMA_VERSION}`"
        )
    if version not in STEPS and version != SCHEMA_VERSION:
        raise FailedPrecondition(f"{database.path} has schema version {version}, which never was: restore it")
    while version < SCHEMA_VERSION:
        _logger.info("store %s: schema version %d to %d", database.path, version, version + 1)
        _take(database, STEPS[version].up, version + 1)
        version += 1


def downgrade(database: Database) -> int:
    """Takes a store of the present version back by one, for the embedcore before; returns its version then.
    FailedPrecondition when there is no version before."""
    before = SCHEMA_VERSION - 1
    if before not in STEPS:
        raise FailedPrecondition(f"{database.path}: there is no schema version before {SCHEMA_VERSION}")
    _take(database, STEPS[before].down, before)
    return before


def change_version(path: Path, to: int | None) -> tuple[int, int]:
    """Takes a store that no process has open to the version asked for, one back or forth from where it is;
    returns the version before and after. None: only looks. FailedPrecondition for anything else."""
    if not path.exists():
        raise FailedPrecondition(f"there is no store {path}: name its data directory")
    database = Database(path)
    try:
        with database.read() as connection:
            version = read_version(connection)
        if to in (None, version):
            return version, version
        if to == version + 1 <= SCHEMA_VERSION:
            _take(database, STEPS[version].up, to)
        elif to == version - 1 and version == SCHEMA_VERSION:
            downgrade(database)
        else:
            raise FailedPrecondition(
                f"{path} has schema version {version}: it can be taken one version back or forth, up to"
                f" {SCHEMA_VERSION}, not to {to}"
            )
        return version, to
    finally:
        database.close()


def _take(database: Database, step: Callable[[Connection], None], version: int) -> None:
    def work(transaction: WriteTransaction) -> None:
        step(transaction.connection)
        transaction.connection.exec_driver_sql(
            "UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(version),)
        )

    database.write(work)


def _up_2(connection: Connection) -> None:
    """Retention: holds, and what is left of pruned tombstones."""
    run = connection.exec_driver_sql
    for column in ("pruned", "pruned_item", "pruned_version"):
        run(f"ALTER TABLE shards ADD COLUMN {column} BIGINT NOT NULL DEFAULT 0")
    run("CREATE INDEX items_by_delete ON items (shard, sequence) WHERE deleted = 1")
    run(
        "CREATE TABLE holds (name VARCHAR NOT NULL, shard INTEGER NOT NULL, sequence BIGINT NOT NULL,"
        " log SMALLINT NOT NULL, generation INTEGER, PRIMARY KEY (name, shard))"
    )
    # What a downgrade put in place of pruned entries.
    run(
        "UPDATE shards SET pruned = coalesce((SELECT max(sequence) FROM log"
        " WHERE log.shard = shards.shard AND item = 0), 0)"
    )
    run("DELETE FROM log WHERE item = 0")
    # Wherever the lanes and backfills of live generations stand, they have the rest of the log.
    live = run("SELECT number, document FROM generations WHERE live = 1").all()
    for number, document in live:
        run("INSERT INTO holds SELECT ?, shard, pruned, 1, ? FROM shards", (f"lane/g{number}", number))
        if json.loads(document)["state"] == "filling":
            run(
                "INSERT INTO holds SELECT ?, shard, pruned, 0, ? FROM shards", (f"backfill/g{number}", number)
            )


def _down_2(connection: Connection) -> None:
    """Version 1 knows a whole log and all tombstones. In place of pruned log entries it gets ones that name
    no item, which its lanes pass over; in place of the youngest pruned tombstone, one under a reserved id.
    What it cannot express: an id whose tombstone was pruned starts again at version 1 when it comes back."""
    run = connection.exec_driver_sql
    run(
        "INSERT INTO log (shard, sequence, item, version, op, generation) WITH RECURSIVE"
        " missing(shard, sequence) AS (SELECT shard, pruned FROM shards WHERE pruned > 0 UNION ALL"
        " SELECT shard, sequence - 1 FROM missing WHERE sequence > 1)"
        " SELECT shard, sequence, 0, 0, 'write', NULL FROM missing"
    )
    given = int(run("SELECT max(pruned_item) FROM shards").scalar() or 0)
    if given > int(run("SELECT max(item) FROM items").scalar() or 0):
        _reserve(connection, given)
    run("DROP TABLE holds")
    run("DROP INDEX items_by_delete")
    for column in ("pruned", "pruned_item", "pruned_version"):
        run(f"ALTER TABLE shards DROP COLUMN {column}")


def _reserve(connection: Connection, number: int) -> None:
    run = connection.exec_driver_sql
    item_id = _RESERVED_ID.format(number)
    shard = shard_of(item_id, int(run("SELECT count(*) FROM shards").scalar() or 1))
    digest = item_digest(item_id, "", 1, None, deleted=True)
    run(
        "INSERT INTO items (item, id, namespace, shard, version, sequence, created_at, updated_at, content,"
        " attributes, deleted, digest) VALUES (?, ?, '', ?, 1, 0, 0, 0, NULL, '{}', 1, ?)",
        (number, item_id, shard, to_signed(digest)),
    )
    checksum = int(run("SELECT checksum FROM shards WHERE shard = ?", (shard,)).scalar() or 0)
    run("UPDATE shards SET checksum = ? WHERE shard = ?", (to_signed(checksum + digest), shard))


STEPS: Final[dict[int, Step]] = {1: Step(_up_2, _down_2)}
