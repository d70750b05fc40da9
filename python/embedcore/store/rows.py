"""Item rows inside a write transaction: found by id in one query per batch, written in one statement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, bindparam, select

from embedcore.store import schema
from embedcore.store.checksum import to_signed
from embedcore.store.prepared import MOST_KEYS, ByKeys, Row, Upsert

T = TypeVar("T")
Key = tuple[str, str]  # (namespace, id)

_CHANGED = [
    schema.items.c[name]
    for name in (
        "version",
        "sequence",
        "created_at",
        "updated_at",
        "content",
        "attributes",
        "deleted",
        "digest",
    )
]

_PUT = Upsert(schema.items, keys=[schema.items.c.item], update=_CHANGED)

_ITEM_COLUMNS = (
    schema.items.c.id,
    schema.items.c.item,
    schema.items.c.shard,
    schema.items.c.version,
    schema.items.c.created_at,
    schema.items.c.attributes,
    schema.items.c.deleted,
    schema.items.c.digest,
)

_BY_ID = ByKeys(
    lambda ids: select(*_ITEM_COLUMNS).where(
        schema.items.c.namespace == bindparam("namespace"), schema.items.c.id.in_(ids)
    ),
    "namespace",
)


@dataclass(frozen=True, slots=True)
class ItemRow:
    """What a write must know about an item that exists, alive or as a tombstone."""

    item: int
    shard: int
    version: int
    created_at: float
    attributes: str
    deleted: bool
    digest: int


def chunks(values: Sequence[T], size: int = MOST_KEYS) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def find_items(connection: Connection, keys: Iterable[Key]) -> dict[Key, ItemRow]:
    """The rows of the keys that were ever written."""
    by_namespace: dict[str, list[str]] = defaultdict(list)
    for namespace, item_id in keys:
        by_namespace[namespace].append(item_id)
    found: dict[Key, ItemRow] = {}
    for namespace, ids in by_namespace.items():
        for part in chunks(ids):
            for row in _BY_ID.rows(connection, part, (namespace,)):
                item_id, item, shard, version, created_at, attributes, deleted, digest = row
                found[namespace, item_id] = ItemRow(
                    item, shard, version, created_at, attributes, bool(deleted), digest
                )
    return found


def item_row(
    *,
    item: int,
    item_id: str,
    namespace: str,
    shard: int,
    version: int,
    sequence: int,
    created_at: float,
    updated_at: float,
    content: str | None,
    attributes: str,
    deleted: int,
    digest: int,
) -> Row:
    """A whole row for :func:`put_items`, in the table's order of columns."""
    return (
        item,
        item_id,
        namespace,
        shard,
        version,
        sequence,
        created_at,
        updated_at,
        content,
        attributes,
        deleted,
        to_signed(digest),
    )


def put_items(connection: Connection, rows: Sequence[Row]) -> None:
    """Inserts new items and replaces the changing columns of known ones."""
    _PUT.many(connection, rows)
