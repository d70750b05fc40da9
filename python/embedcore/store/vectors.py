"""Vector rows inside a transaction: put, forgotten, dropped, and read back with their checksums.

Invariant: a row belongs to a live item; in a live generation its sequence is null exactly when the item has
moved on to a later version without a vector. Such a row stays until it is replaced, because indexes still
hold that vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BindParameter, ColumnElement, Connection, Row, and_, bindparam, func, select

from embedcore.store import schema
from embedcore.store.checksum import Encoded, decode_vectors, is_intact
from embedcore.store.prepared import Upsert
from embedcore.store.rows import chunks
from embedcore.types import Vectors

_vectors = schema.vectors.c
_items = schema.items.c

_FORGET = (
    schema.vectors.update()
    .where(
        _vectors.generation == bindparam("of_generation"),
        _vectors.shard == bindparam("of_shard"),
        _vectors.item == bindparam("of_item"),
    )
    .values(sequence=None)
)


_PUT = Upsert(
    schema.vectors,
    keys=[_vectors.generation, _vectors.shard, _vectors.item],
    update=[_vectors.version, _vectors.sequence, _vectors.checksum, _vectors.data],
    without=[_vectors.row],
)


class VectorRows(NamedTuple):
    """Vectors as read: ``damaged`` items had a row that fails its checksum or length, and are left out."""

    items: NDArray[np.int64]
    vectors: Vectors
    damaged: list[int]


def put_vectors(
    connection: Connection, generation: int, rows: Iterable[tuple[int, int, int, int, Encoded]]
) -> None:
    """Rows of (shard, item, version, sequence, vector); what the generation held of an item is replaced."""
    _PUT.many(
        connection,
        [
            (generation, shard, item, version, sequence, checksum, data)
            for shard, item, version, sequence, (data, checksum) in rows
        ],
    )


def forget_current(connection: Connection, generation: int, rows: Sequence[tuple[int, int]]) -> None:
    """Rows of (shard, item) whose item has got a version that has no vector here."""
    if rows:
        connection.execute(
            _FORGET,
            [{"of_generation": generation, "of_shard": shard, "of_item": item} for shard, item in rows],
        )


def drop_items(connection: Connection, shard: int, items: Sequence[int]) -> None:
    """Removes the vectors of items of one shard in every generation."""
    generations = list(connection.scalars(select(schema.generations.c.number)))
    for part in chunks(items):
        connection.execute(
            schema.vectors.delete().where(
                _vectors.generation.in_(generations), _vectors.shard == shard, _vectors.item.in_(part)
            )
        )


def drop_damaged(connection: Connection, generation: int, dimension: int, items: Sequence[int]) -> list[int]:
    """Removes those of the items' vectors that are still damaged now; returns their items."""
    gone: list[int] = []
    for part in chunks(sorted(set(items))):
        query = (
            select(_vectors.row, _vectors.item, _vectors.data, _vectors.checksum)
            .select_from(schema.vectors.join(schema.items, _items.item == _vectors.item))
            .where(_vectors.generation == generation, _vectors.shard == _items.shard, _items.item.in_(part))
        )
        for row in connection.execute(query).all():
            if not is_intact(row.data, row.checksum, dimension):
                connection.execute(schema.vectors.delete().where(_vectors.row == row.row))
                gone.append(row.item)
    return gone


def drop_some(connection: Connection, generation: int, limit: int) -> int:
    """Removes up to ``limit`` vectors of a generation; returns how many."""
    rows = list(
        connection.scalars(select(_vectors.row).where(_vectors.generation == generation).limit(limit))
    )
    for part in chunks(rows):
        connection.execute(schema.vectors.delete().where(_vectors.row.in_(part)))
    return len(rows)


def of_item(generation: int | BindParameter[Any], *, current: bool) -> ColumnElement[bool]:
    """Joins a generation's vectors to their items: any vector, or that of the item's current version."""
    same = and_(
        _vectors.generation == generation, _vectors.shard == _items.shard, _vectors.item == _items.item
    )
    return and_(same, _vectors.version == _items.version) if current else same


def current_vectors(
    connection: Connection, generation: int, dimension: int, items: Sequence[int]
) -> VectorRows:
    """Vectors of the given items' current versions, ascending by item; those without are left out."""
    query = (
        select(_vectors.item, _vectors.data, _vectors.checksum)
        .select_from(schema.items.join(schema.vectors, of_item(generation, current=True)))
        .where(_items.item.in_(bindparam("items", expanding=True)))
    )
    rows: list[Row[Any]] = []
    for part in chunks(sorted(set(items))):
        rows.extend(connection.execute(query.order_by(_items.item), {"items": part}))
    return intact_rows(rows, dimension)


def scan(
    connection: Connection, generation: int, shard: int, dimension: int, after_item: int, limit: int
) -> VectorRows:
    """Stored vectors of one shard by ascending item, the last known one where the current is missing."""
    query = (
        select(_vectors.item, _vectors.data, _vectors.checksum)
        .where(_vectors.generation == generation, _vectors.shard == shard, _vectors.item > after_item)
        .order_by(_vectors.item)
        .limit(limit)
    )
    return intact_rows(connection.execute(query).all(), dimension)


def intact_rows(rows: Iterable[Sequence[Any]], dimension: int) -> VectorRows:
    """Decodes rows of (item, data, checksum)."""
    good: list[tuple[int, bytes]] = []
    damaged: list[int] = []
    for item, data, checksum in rows:
        if is_intact(data, checksum, dimension):
            good.append((item, data))
        else:
            damaged.append(item)
    items = np.fromiter((item for item, _ in good), dtype=np.int64, count=len(good))
    return VectorRows(items, decode_vectors([data for _, data in good], dimension), damaged)


def held_versions(connection: Connection, generation_items: Sequence[Row[Any]]) -> dict[int, dict[int, int]]:
    """item -> generation -> version of the vector held, for rows with ``item`` and ``shard``."""
    generations = list(connection.scalars(select(schema.generations.c.number)))
    by_shard: dict[int, list[int]] = {}
    for row in generation_items:
        by_shard.setdefault(row.shard, []).append(row.item)
    held: dict[int, dict[int, int]] = {}
    for shard, items in by_shard.items():
        for part in chunks(items):
            query = select(_vectors.item, _vectors.generation, _vectors.version).where(
                _vectors.generation.in_(generations), _vectors.shard == shard, _vectors.item.in_(part)
            )
            for item, generation, version in connection.execute(query):
                held.setdefault(item, {})[generation] = version
    return held


def count_current(connection: Connection, generation: int, shard: int, applied: int) -> int:
    """Items of a shard whose current version's vector was logged at or before ``applied``."""
    return int(
        connection.scalar(
            select(func.count()).where(
                _vectors.generation == generation, _vectors.shard == shard, _vectors.sequence <= applied
            )
        )
        or 0
    )
