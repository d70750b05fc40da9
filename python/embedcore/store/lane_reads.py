"""What a lane reads: the items named by the next part of the log, each at its current state.

After a lane has applied a batch, its index holds of every item named so far exactly the row that the
vectors table held when the batch was read, so replaying any part twice or late ends in the same index. An
item whose new version has no vector yet (a repair entry waits) keeps the vector it has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, bindparam, or_, select

from embedcore.store import schema
from embedcore.store.interface import LaneBatch, LogPruned
from embedcore.store.rows import chunks
from embedcore.store.vectors import intact_rows, of_item

_log = schema.log.c
_items = schema.items.c
_vectors = schema.vectors.c
_COUNTERS = select(schema.shards.c.sequence, schema.shards.c.pruned).where(
    schema.shards.c.shard == bindparam("shard")
)


def read_head(connection: Connection, shard: int) -> int:
    return int(connection.scalar(select(schema.shards.c.sequence).where(schema.shards.c.shard == shard)) or 0)


def read_lane(
    connection: Connection, generation: int, shard: int, dimension: int, after: int, limit: int
) -> tuple[LaneBatch | None, list[int]]:
    """The batch after ``after`` from at most ``limit`` log entries, or None at the head; and the items
    whose stored vector is damaged, which are left out of the batch."""
    head, pruned = connection.execute(_COUNTERS, {"shard": shard}).one()
    if after < pruned and max(after, _since(connection, generation, shard)) < pruned:
        raise LogPruned(
            f"generation {generation}, shard {shard}: the log is pruned up to {pruned}, a lane at {after} has"
            " missed writes: rebuild its index from the stored vectors"
        )
    if after >= head:
        return None, []
    entries = connection.execute(
        select(_log.sequence, _log.item, _log.version, _log.op)
        .where(
            _log.shard == shard,
            _log.sequence > after,
            _log.sequence <= head,
            or_(_log.generation.is_(None), _log.generation == generation),
        )
        .order_by(_log.sequence)
        .limit(limit)
    ).all()
    # Entries of other generations behind the last one are nothing to this lane: it is past them.
    upto = entries[-1].sequence if len(entries) == limit else head
    deleted_here = {entry.item for entry in entries if entry.op == schema.DELETE}
    named_here = {(entry.item, entry.version) for entry in entries}

    removed: list[int] = []
    held: list[tuple[int, bytes, int]] = []
    states = _states(generation)
    for part in chunks(sorted({entry.item for entry in entries})):
        for row in connection.execute(states, {"items": part}):
            if row.data is None:
                # Deleted; or deleted, added again, and still without a vector.
                if row.deleted or row.item in deleted_here:
                    removed.append(row.item)
            elif row.held == row.version or (row.item, row.held) in named_here:
                held.append((row.item, row.data, row.checksum))
    found = intact_rows(held, dimension)
    batch = LaneBatch(
        upto=upto, removed=np.array(removed, dtype=np.int64), ids=found.items, vectors=found.vectors
    )
    return batch, found.damaged


def _since(connection: Connection, generation: int, shard: int) -> int:
    """Where the generation began: nothing before it was ever meant for one of its lanes."""
    table = schema.generation_shards.c
    query = select(table.since).where(table.generation == generation, table.shard == shard)
    return int(connection.scalar(query) or 0)


def _states(generation: int) -> Select[Any]:
    return (
        select(
            _items.item,
            _items.deleted,
            _items.version,
            _vectors.version.label("held"),
            _vectors.data,
            _vectors.checksum,
        )
        .select_from(schema.items.outerjoin(schema.vectors, of_item(generation, current=False)))
        .where(_items.item.in_(bindparam("items", expanding=True)))
        .order_by(_items.item)
    )
