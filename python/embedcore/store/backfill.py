"""What the backfill reads: items without a vector in order of recency, coverage, and what is missing."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, FromClause, bindparam, select, tuple_

from embedcore.store import schema
from embedcore.store.interface import BackfillCursor, BackfillItem, Coverage
from embedcore.store.items import count_live, to_stored
from embedcore.store.vectors import count_current, of_item
from embedcore.types import StoredItem

_items = schema.items.c
_vectors = schema.vectors.c


def _without_current(generation: int) -> FromClause:
    return schema.items.outerjoin(schema.vectors, of_item(generation, current=True))


def read_backfill(
    connection: Connection, generation: int, shard: int, cursor: BackfillCursor | None, limit: int
) -> list[BackfillItem]:
    """Most recent first; equal times by larger item first. Reads the recency index backwards."""
    query = (
        select(_items.item, _items.id, _items.version, _items.content, _items.created_at)
        .select_from(_without_current(generation))
        .where(_items.shard == shard, _items.deleted == 0, _vectors.row.is_(None))
        .order_by(_items.created_at.desc(), _items.item.desc())
        .limit(limit)
    )
    if cursor is not None:
        position = tuple_(bindparam("at", cursor.created_at), bindparam("past", cursor.item))
        query = query.where(tuple_(_items.created_at, _items.item) < position)
    return [BackfillItem(*row) for row in connection.execute(query)]


def coverage(connection: Connection, generation: int, applied: Mapping[int, int]) -> Coverage:
    """Covered: live items whose current version's vector every shard's lane has applied. Shards that are
    not in ``applied`` have applied nothing."""
    covered = sum(
        count_current(connection, generation, shard, sequence) for shard, sequence in applied.items()
    )
    return Coverage(covered=covered, live=count_live(connection))


def missing_items(connection: Connection, generation: int, limit: int) -> list[StoredItem]:
    """Oldest first over all shards: what is missing is never random, and the rarest items are the oldest."""

    def of_shard(shard: int) -> Iterator[Any]:
        query = (
            select(schema.items)
            .select_from(_without_current(generation))
            .where(_items.shard == shard, _items.deleted == 0, _vectors.row.is_(None))
            .order_by(_items.created_at, _items.item)
            .limit(limit)
        )
        yield from connection.execute(query)

    shards = connection.scalars(select(schema.shards.c.shard)).all()
    oldest = heapq.merge(*map(of_shard, shards), key=lambda row: (row.created_at, row.item))
    return to_stored(connection, [row for row, _ in zip(oldest, range(limit), strict=False)])
