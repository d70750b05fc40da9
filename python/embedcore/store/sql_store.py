"""The store: its parts put together over one database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from embedcore.clock import Clock
from embedcore.store import schema
from embedcore.store.connection import Database
from embedcore.store.dialect import Durability
from embedcore.store.document_part import DocumentPart
from embedcore.store.interface import Store
from embedcore.store.item_part import ItemPart
from embedcore.store.ownership import Ownership
from embedcore.store.stream_part import StreamPart
from embedcore.store.work_part import WorkPart

DATABASE_FILE: Final = "store.sqlite"


class SqlStore(ItemPart, StreamPart, WorkPart, DocumentPart):
    """Implements :class:`embedcore.store.interface.Store`, whose docstrings hold here. Made by
    :func:`embedcore.store.open_store`.

    All methods may be called from any thread. Writes are serialised, share commits where they meet, are
    checked before anything changes, and durable when they return, as :attr:`durability` says; reads see one
    committed snapshot each and never wait for writers. After :meth:`close` every call raises Unavailable.
    Faults of the disk raise ResourceExhausted (full), Unavailable (read-only, locked) or DataLoss (damaged),
    and leave nothing half-written.
    """

    @property
    def ownership(self) -> Ownership:
        return self._core.ownership

    @property
    def data_dir(self) -> Path:
        return self._core.data_dir

    @property
    def database(self) -> Database:
        return self._core.database

    @property
    def shards(self) -> int:
        return self._core.marks.shards

    @property
    def simulated(self) -> bool:
        return self._core.marks.simulated

    @property
    def durability(self) -> Durability:
        return self._core.database.durability

    def close(self) -> None:
        """Waits for the writes in progress and gives the directory up. Closing twice does nothing."""
        self._core.database.close()
        self._core.ownership.release()

    def leading(self, epoch: int) -> SqlStore:
        return SqlStore(self._core, epoch)

    def stats(self) -> dict[str, Any]:
        """Settings, what is free, and per shard how much of the log is kept, and for whom; JSON."""
        holds = self.holds()
        with self._read() as connection:
            counters = connection.execute(select(schema.shards).order_by(schema.shards.c.shard)).all()
        return {
            "schema_version": schema.SCHEMA_VERSION,
            "durability": self.durability,
            "read_only": self._core.database.read_only,  # opened on a full disk
            "opened_seconds": round(self._core.opened_seconds, 3),
            **self._core.reserve.stats(),
            "shards": [
                {
                    "shard": row.shard,
                    "head": row.sequence,
                    "pruned": row.pruned,
                    "holds": {hold.name: hold.sequence for hold in holds if hold.shard == row.shard},
                }
                for row in counters
            ],
        }

    def now(self) -> float:
        """Of the store's clock: seconds since the epoch."""
        return self._now()

    def use_clock(self, clock: Clock) -> None:
        """Changes the clock of later writes: a simulated store keeps its clock's settings in its own meta."""
        self._core.clock = clock

    def on_commit(self, callback: Callable[[], None]) -> None:
        """The callback runs on a writer's thread, after the commit and before the next one: it must be quick
        (set an event) and must not write to the store. What it raises is logged."""
        self._core.add_listener(callback)

    def remove_on_commit(self, callback: Callable[[], None]) -> None:
        """Forgets a callback; an unknown one is ignored."""
        self._core.remove_listener(callback)


if TYPE_CHECKING:

    def _implements(store: SqlStore) -> Store:
        return store
