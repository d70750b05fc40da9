"""Dense number -> (id, namespace), from memory: what turns the ids of an index into answers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from embedcore.store import schema
from embedcore.store.connection import Database
from embedcore.store.rows import chunks

_items = schema.items.c


class NameCache:
    """Filled on demand and never emptied, since the mapping never changes. Thread-safe: a dict's single
    look-ups and insertions are atomic, and filling twice writes the same values.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names: dict[int, tuple[str, str]] = {}

    def of(self, items: Sequence[int]) -> list[tuple[str, str] | None]:
        """None for a number that is not known: its tombstone was pruned, or it never was given out."""
        names = self._names
        wanted = [int(item) for item in items]
        missing = [item for item in wanted if item not in names]
        if missing:
            self._fill(missing)
        return [names.get(item) for item in wanted]

    def _fill(self, missing: Sequence[int]) -> None:
        with self._database.read() as connection:
            for part in chunks(sorted(set(missing))):
                query = select(_items.item, _items.id, _items.namespace).where(_items.item.in_(part))
                for item, item_id, namespace in connection.execute(query):
                    self._names[item] = (item_id, namespace)
