"""Items as the rest of embedcore reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, func, select

from embedcore.store import schema
from embedcore.store.attributes import matching_items
from embedcore.store.rows import chunks
from embedcore.store.vectors import held_versions
from embedcore.types import Attributes, StoredItem

_items = schema.items.c


def get_item(connection: Connection, item_id: str, namespace: str) -> StoredItem | None:
    """The item, or its tombstone (``deleted``); None when the id was never written."""
    rows = connection.execute(
        select(schema.items).where(_items.namespace == namespace, _items.id == item_id)
    ).all()
    stored = to_stored(connection, rows)
    return stored[0] if stored else None


def get_items(connection: Connection, items: Sequence[int]) -> list[StoredItem]:
    """In the order asked for; unknown numbers are left out, tombstones are not."""
    found: dict[int, Row[Any]] = {}
    for part in chunks(sorted(set(items))):
        for row in connection.execute(select(schema.items).where(_items.item.in_(part))):
            found[row.item] = row
    return to_stored(connection, [found[item] for item in items if item in found])


def to_stored(connection: Connection, rows: Sequence[Row[Any]]) -> list[StoredItem]:
    """Whole rows of the items table, with the versions that generations hold."""
    held = held_versions(connection, rows)
    return [
        StoredItem(
            id=row.id,
            namespace=row.namespace,
            item=row.item,
            shard=row.shard,
            version=row.version,
            created_at=row.created_at,
            updated_at=row.updated_at,
            content=row.content,
            attributes=json.loads(row.attributes),
            deleted=bool(row.deleted),
            held=held.get(row.item, {}),
        )
        for row in rows
    ]


def items_of(connection: Connection, ids: Sequence[str], namespace: str) -> NDArray[np.int64]:
    found: dict[str, int] = {}
    for part in chunks(sorted(set(ids))):
        query = select(_items.id, _items.item).where(
            _items.namespace == namespace, _items.id.in_(part), _items.deleted == 0
        )
        found.update((item_id, item) for item_id, item in connection.execute(query))
    return np.fromiter((found.get(item_id, -1) for item_id in ids), dtype=np.int64, count=len(ids))


def live_numbers(connection: Connection, namespace: str | None = None) -> NDArray[np.int64]:
    """Dense numbers of live items, ascending; of all namespaces when None."""
    query = select(_items.item).where(_items.deleted == 0)
    if namespace is not None:
        query = query.where(_items.namespace == namespace)
    return np.sort(np.fromiter(connection.scalars(query), dtype=np.int64))


def matching(connection: Connection, namespace: str, attributes: Attributes) -> NDArray[np.int64]:
    """Live items of a namespace with equal attributes, ascending."""
    if attributes:
        return matching_items(connection, namespace, attributes)
    return live_numbers(connection, namespace)


def count_live(connection: Connection) -> int:
    return int(connection.scalar(select(func.sum(schema.shards.c.live))) or 0)


def read_namespaces(connection: Connection) -> set[str]:
    """All namespaces ever written to, by one index look-up each."""
    found: set[str] = set()
    last: str | None = connection.scalar(select(func.min(_items.namespace)))
    while last is not None:
        found.add(last)
        last = connection.scalar(select(func.min(_items.namespace)).where(_items.namespace > last))
    return found
