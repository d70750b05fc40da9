"""What a lane reads: the items named by the next part of the log, each at its current state.

After a lane has applied a batch, its index holds of every item named so far exactly the row that the
vectors table held when the batch was read, so replaying any part twice or late ends in the same index. An
item whose new version has no vector yet (a repair entry waits) keeps the vector it has.
"""

from __future__ import annotations

import numpy as np
from sqlalchemy import Connection, bindparam, or_, select

from embedcore.store import schema
from embedcore.store.interface import LaneBatch, LogPruned
from embedcore.store.prepared import ByKeys, Statement
from embedcore.store.rows import chunks
from embedcore.store.vectors import intact_rows, of_item

_log = schema.log.c
_items = schema.items.c
_vectors = schema.vectors.c
_COUNTERS = Statement(
    select(schema.shards.c.sequence, schema.shards.c.pruned).where(
        schema.shards.c.shard == bindparam("shard")
    ),
    "shard",
)
_ENTRIES = Statement(
    select(_log.sequence, _log.item, _log.version, _log.op)
    .where(
        _log.shard == bindparam("shard"),
        _log.sequence > bindparam("after"),
        _log.sequence <= bindparam("head"),
        or_(_log.generation.is_(None), _log.generation == bindparam("generation")),
    )
    .order_by(_log.sequence)
    .limit(bindparam("most"))
    .offset(bindparam("from_first")),  # SQLite's LIMIT is compiled with one either way
    *("shard", "after", "head", "generation", "most", "from_first"),
)
_STATES = ByKeys(
    lambda items: (
        select(
            _items.item,
            _items.deleted,
            _items.version,
            _vectors.version.label("held"),
            _vectors.data,
            _vectors.checksum,
        )
        .select_from(schema.items.outerjoin(schema.vectors, of_item(bindparam("generation"), current=False)))
        .where(_items.item.in_(items))
        .order_by(_items.item)
    ),
    "generation",
)


def read_head(connection: Connection, shard: int) -> int:
    return int(connection.scalar(select(schema.shards.c.sequence).where(schema.shards.c.shard == shard)) or 0)


def read_lane(
    connection: Connection, generation: int, shard: int, dimension: int, after: int, limit: int
) -> tuple[LaneBatch | None, list[int]]:
    """The batch after ``after`` from at most ``limit`` log entries, or None at the head; and the items
    whose stored vector is damaged, which are left out of the batch."""
    ((head, pruned),) = _COUNTERS.rows(connection, (shard,))
    if after < pruned and max(after, _since(connection, generation, shard)) < pruned:
        raise LogPruned(
            f"generation {generation}, shard {shard}: the log is pruned up to {pruned}, a lane at {after} has"
            " missed writes: rebuild its index from the stored vectors"
        )
    if after >= head:
        return None, []
    entries = _ENTRIES.rows(connection, (shard, after, head, generation, limit, 0))
    # Entries of other generations behind the last one are nothing to this lane: it is past them.
    upto = entries[-1][0] if len(entries) == limit else head
    deleted_here = {item for _, item, _, op in entries if op == schema.DELETE}
    named_here = {(item, version) for _, item, version, _ in entries}

    removed: list[int] = []
    held: list[tuple[int, bytes, int]] = []
    for part in chunks(sorted({item for _, item, _, _ in entries})):
        for item, deleted, version, has, data, checksum in _STATES.rows(connection, part, (generation,)):
            if data is None:
                # Deleted; or deleted, added again, and still without a vector.
                if deleted or item in deleted_here:
                    removed.append(item)
            elif has == version or (item, has) in named_here:
                held.append((item, data, checksum))
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
