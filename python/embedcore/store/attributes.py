"""Postings (namespace, attribute, value) -> live items: what a filter by attributes reads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, select

from embedcore.store import schema
from embedcore.store.checks import canonical_value
from embedcore.store.prepared import Insert
from embedcore.types import Attributes

_Posting = tuple[str, str, str, int]  # the columns of the table

_REMOVE = schema.attributes.delete().where(
    *(schema.attributes.c[name] == bindparam(f"of_{name}") for name in ("namespace", "key", "value", "item"))
)
_ADD = Insert(schema.attributes)


class Postings:
    """The changes of one transaction, written by :meth:`flush`."""

    def __init__(self) -> None:
        self._added: list[_Posting] = []
        self._removed: list[_Posting] = []

    def change(self, item: int, namespace: str, old: str, new: str) -> None:
        """``old`` and ``new``: the item's attributes as stored JSON; ``{}`` for no item, or a tombstone."""
        if old == new:
            return
        before = _postings(item, namespace, old)
        after = _postings(item, namespace, new)
        self._removed.extend(before - after)
        self._added.extend(after - before)

    def flush(self, connection: Connection) -> None:
        if self._removed:
            connection.execute(_REMOVE, [_named(posting, "of_") for posting in self._removed])
        if self._added:
            _ADD.execute(connection, [_named(posting, "") for posting in self._added])


def matching_items(connection: Connection, namespace: str, attributes: Attributes) -> NDArray[np.int64]:
    """Live items of the namespace with all these attributes, ascending. At least one attribute."""
    found: NDArray[np.int64] | None = None
    table = schema.attributes.c
    for key, value in attributes.items():
        query = (
            select(table.item)
            .where(table.namespace == namespace, table.key == key, table.value == canonical_value(value))
            .order_by(table.item)
        )
        holders = np.fromiter(connection.scalars(query), dtype=np.int64)
        found = holders if found is None else np.intersect1d(found, holders, assume_unique=True)
        if not found.size:
            break
    assert found is not None
    return found


def _postings(item: int, namespace: str, attributes: str) -> set[_Posting]:
    if attributes == "{}":
        return set()
    document: dict[str, Any] = json.loads(attributes)
    return {(namespace, key, canonical_value(value), item) for key, value in document.items()}


def _named(posting: _Posting, prefix: str) -> dict[str, Any]:
    namespace, key, value, item = posting
    return {
        f"{prefix}namespace": namespace,
        f"{prefix}key": key,
        f"{prefix}value": value,
        f"{prefix}item": item,
    }
