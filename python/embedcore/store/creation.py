"""What is fixed when a store is created: shard count, the simulated mark, the schema version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, inspect, select

from embedcore.errors import DataLoss, FailedPrecondition, InvalidArgument
from embedcore.store import schema
from embedcore.store.connection import Database, WriteTransaction
from embedcore.store.prepared import Upsert
from embedcore.store.schema_steps import upgrade

MAX_SHARDS: Final = 4096

# Keys that only this module writes.
RESERVED: Final = frozenset({"schema_version", "shards", "simulated", "created_at"})


_PUT = Upsert(schema.meta, keys=[schema.meta.c.key], update=[schema.meta.c.value])


@dataclass(frozen=True, slots=True)
class Marks:
    shards: int
    simulated: bool


def create_or_check(database: Database, shards: int | None, simulated: bool | None, now: float) -> Marks:
    """Creates the tables in an empty file, or brings an existing store to the present schema and checks that
    it is what was asked for.

    ``None`` asks for nothing: a new store gets 1 shard and is not simulated. FailedPrecondition when the
    store differs, or was written by a newer embedcore; InvalidArgument for an impossible shard count.
    """
    if shards is not None and (not 1 <= shards <= MAX_SHARDS or shards & (shards - 1)):
        raise InvalidArgument(f"shards must be a power of two from 1 to {MAX_SHARDS}, got {shards}")

    with database.read() as connection:
        exists = inspect(connection).has_table(schema.meta.name)

    def create(transaction: WriteTransaction) -> None:
        _create(transaction.connection, shards or 1, bool(simulated), now)

    if exists:
        upgrade(database)
    else:
        database.write(create)
    with database.read() as connection:
        marks = _read(connection, database)
    if shards is not None and shards != marks.shards:
        raise FailedPrecondition(
            f"{database.path} was created with {marks.shards} shards, not {shards}: open it with"
            f" {marks.shards}, the count is fixed at creation"
        )
    if simulated is not None and simulated != marks.simulated:
        was, asked = ("simulated", "real") if marks.simulated else ("real", "simulated")
        raise FailedPrecondition(
            f"{database.path} was created for {was} time, not {asked}: use another data directory"
        )
    return marks


def read_meta(connection: Connection, key: str) -> str | None:
    value: str | None = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == key))
    return value


def write_meta(connection: Connection, key: str, value: str) -> None:
    """Sets a mark. InvalidArgument for one that is fixed at creation."""
    if key in RESERVED:
        raise InvalidArgument(f"meta key {key!r} is fixed when the store is created: choose another key")
    _put(connection, {key: value})


def _put(connection: Connection, values: dict[str, str]) -> None:
    rows = [{"key": key, "value": value} for key, value in values.items()]
    _PUT.execute(connection, rows)


def _create(connection: Connection, shards: int, simulated: bool, now: float) -> None:
    schema.metadata.create_all(connection)
    connection.execute(
        schema.shards.insert(),
        [
            {
                "shard": shard,
                "sequence": 0,
                "checksum": 0,
                "live": 0,
                "pruned": 0,
                "pruned_item": 0,
                "pruned_version": 0,
            }
            for shard in range(shards)
        ],
    )
    marks = {
        "schema_version": str(schema.SCHEMA_VERSION),
        "shards": str(shards),
        "simulated": str(int(simulated)),
        "created_at": repr(now),
    }
    _put(connection, marks)


def _read(connection: Connection, database: Database) -> Marks:
    version = read_meta(connection, "schema_version")
    shards = read_meta(connection, "shards")
    simulated = read_meta(connection, "simulated")
    if version is None or shards is None or simulated is None:
        raise DataLoss(f"{database.path} lacks its creation marks: restore it from a backup")
    return Marks(shards=int(shards), simulated=simulated == "1")
