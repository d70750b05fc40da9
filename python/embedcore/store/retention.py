"""How long the log and the tombstones are kept: as long as somebody who is named holds them.

A *hold* (name, shard, sequence) says: what comes after this sequence number is still needed. The log is
pruned behind the slowest hold that reads it, tombstones behind the slowest of all. Every live generation has
a lane hold from the transaction that creates it, so nothing is pruned that nobody has spoken for; it moves on
with the oldest snapshot that is kept (or, without one, with what its lane has applied), and ends with the
generation. A backfill holds tombstones from where its sweep began. Followers and backups take holds of
their own, and release them.

Who comes too late is refused by :class:`embedcore.store.interface.LogPruned` and rebuilds from the stored
vectors: slower, never wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, func, select, text

from embedcore.errors import InvalidArgument
from embedcore.store import schema
from embedcore.store.checks import MAX_NAME_BYTES
from embedcore.store.checksum import to_unsigned
from embedcore.store.interface import Hold, LogPruned, Pruned
from embedcore.store.prepared import Upsert
from embedcore.store.rows import chunks
from embedcore.store.sequence import Sequencer

# Log entries, and tombstones, per transaction of a prune: other writers get in between.
STEP: Final = 2048

_holds = schema.holds.c
_log = schema.log.c
_items = schema.items.c
_shards = schema.shards.c

_PUT = Upsert(
    schema.holds,
    keys=[_holds.name, _holds.shard],
    update=[_holds.sequence, _holds.log, _holds.generation],
)
_DUE = (
    select(_items.item, _items.version, _items.digest)
    # The words of the partial index, so that it is used.
    .where(_items.shard == bindparam("shard"), text("deleted = 1"), _items.sequence <= bindparam("upto"))
    .order_by(_items.sequence)
    .limit(STEP)
)


class Floors(NamedTuple):
    """What one shard may lose: everything up to and including these sequence numbers."""

    log: int
    tombstones: int


def lane_hold(generation: int) -> str:
    """The name of the hold that every live generation has on every shard."""
    return f"lane/g{generation}"


def backfill_hold(generation: int) -> str:
    """The name of the hold of a generation that is being filled."""
    return f"backfill/g{generation}"


def put_hold(
    connection: Connection, name: str, shard: int, sequence: int, *, log: bool, generation: int | None
) -> None:
    """Takes or moves a hold. LogPruned when entries after ``sequence`` are gone already."""
    if not name or len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidArgument(f"name of a hold must have 1 to {MAX_NAME_BYTES} bytes, got {name[:64]!r}")
    row = connection.execute(select(schema.shards).where(_shards.shard == shard)).one()
    if not 0 <= sequence <= row.sequence:
        raise InvalidArgument(f"hold {name!r} at {sequence}: shard {shard} has sequence 0 to {row.sequence}")
    if log and sequence < row.pruned:
        raise LogPruned(
            f"hold {name!r} at {sequence}: the log of shard {shard} is pruned up to {row.pruned}: rebuild"
            " from the stored vectors, and hold from there"
        )
    _PUT.execute(
        connection,
        [{"name": name, "shard": shard, "sequence": sequence, "log": int(log), "generation": generation}],
    )


def hold_generation(connection: Connection, generation: int, heads: Mapping[int, int], filling: bool) -> None:
    """The holds a generation is born with, at the heads of its shards."""
    rows = [
        {
            "name": lane_hold(generation),
            "shard": shard,
            "sequence": sequence,
            "log": 1,
            "generation": generation,
        }
        for shard, sequence in heads.items()
    ]
    if filling:
        rows += [{**row, "name": backfill_hold(generation), "log": 0} for row in rows]
    _PUT.execute(connection, rows)


def release_hold(connection: Connection, name: str, shard: int | None = None) -> None:
    """Gives up a hold, on all shards when None. An unknown one is ignored."""
    statement = schema.holds.delete().where(_holds.name == name)
    if shard is not None:
        statement = statement.where(_holds.shard == shard)
    connection.execute(statement)


def release_generation(connection: Connection, generation: int) -> None:
    connection.execute(schema.holds.delete().where(_holds.generation == generation))


def read_holds(connection: Connection) -> list[Hold]:
    """The slowest first, shard by shard."""
    query = select(_holds.name, _holds.shard, _holds.sequence, _holds.log, _holds.generation).order_by(
        _holds.shard, _holds.sequence, _holds.name
    )
    return [
        Hold(row.name, row.shard, row.sequence, bool(row.log), row.generation)
        for row in connection.execute(query)
    ]


def floors(connection: Connection) -> dict[int, Floors]:
    """Per shard; without any hold everything up to the head is free to go."""
    found: dict[int, Floors] = {}
    slowest: dict[tuple[int, int], int] = {
        (row.shard, row.log): row.slowest
        for row in connection.execute(
            select(_holds.shard, _holds.log, func.min(_holds.sequence).label("slowest")).group_by(
                _holds.shard, _holds.log
            )
        )
    }
    for shard, head in connection.execute(select(_shards.shard, _shards.sequence)):
        log = slowest.get((shard, 1), head)
        found[shard] = Floors(log, min(log, slowest.get((shard, 0), head)))
    return found


def read_pruned(connection: Connection, shard: int) -> int:
    return int(connection.scalar(select(_shards.pruned).where(_shards.shard == shard)) or 0)


def prune_step(connection: Connection, shard: int) -> Pruned:
    """One transaction's worth of one shard; nothing when all that is free has gone."""
    floor = floors(connection)[shard]
    pruned = read_pruned(connection, shard)
    upto = min(floor.log, pruned + STEP)
    entries = max(0, upto - pruned)
    if entries:
        connection.execute(schema.log.delete().where(_log.shard == shard, _log.sequence <= upto))
        connection.execute(schema.shards.update().where(_shards.shard == shard).values(pruned=upto))
    # A tombstone is pruned only behind the log, so that no entry names an item that is gone.
    behind = min(floor.tombstones, max(upto, pruned))
    return Pruned(entries, _prune_tombstones(connection, shard, behind))


def _prune_tombstones(connection: Connection, shard: int, upto: int) -> int:
    due = connection.execute(_DUE, {"shard": shard, "upto": upto}).all()
    if not due:
        return 0
    for part in chunks([row.item for row in due]):
        connection.execute(schema.items.delete().where(_items.item.in_(part)))
    sequencer = Sequencer(connection)
    sequencer.account(shard, digest_change=-sum(to_unsigned(row.digest) for row in due), live_change=0)
    sequencer.forget(shard, max(row.item for row in due), max(row.version for row in due))
    sequencer.flush()
    return len(due)
