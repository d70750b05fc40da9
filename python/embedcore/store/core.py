"""What all parts of one store share, and how a part opens its transactions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection

from embedcore.clock import Clock
from embedcore.errors import InvalidArgument, NotFound
from embedcore.store import controller, creation, generations, repair, vectors
from embedcore.store import items as item_reads
from embedcore.store.connection import Database, WriteTransaction
from embedcore.store.document_cache import DocumentCache
from embedcore.store.names import NameCache
from embedcore.store.ownership import Ownership
from embedcore.store.reserve import Reserve
from embedcore.types import SequenceToken

T = TypeVar("T")

# Repair priority of damaged vectors: before whatever a model failed on.
_DAMAGED: Final = 10

_logger = logging.getLogger(__name__)


class Core:
    """Connections, caches and listeners of one store. Thread-safe."""

    def __init__(
        self,
        ownership: Ownership,
        database: Database,
        marks: creation.Marks,
        clock: Clock,
        reserve: Reserve,
        opened_seconds: float,
    ) -> None:
        """``opened_seconds``: of the machine, that opening took."""
        self.ownership = ownership
        self.data_dir: Path = ownership.data_dir
        self.database = database
        self.marks = marks
        self.clock = clock
        self.reserve = reserve
        self.opened_seconds = opened_seconds
        self.names = NameCache(database)
        self.dimensions = generations.Dimensions(database)
        self.documents = DocumentCache()
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._listeners_lock = threading.Lock()
        with database.read() as connection:
            self.namespaces = frozenset(item_reads.read_namespaces(connection))

    def add_listener(self, callback: Callable[[], None]) -> None:
        with self._listeners_lock:
            self._listeners = (*self._listeners, callback)

    def remove_listener(self, callback: Callable[[], None]) -> None:
        with self._listeners_lock:
            self._listeners = tuple(other for other in self._listeners if other != callback)

    def add_namespaces(self, new: frozenset[str]) -> None:
        """A commit hook, so one at a time."""
        self.namespaces |= new

    def notify(self) -> None:
        """A commit hook: one listener that raises does not keep the others from hearing."""
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                _logger.exception("a commit listener failed; the write is committed")


class StorePart:
    """One concept of the store's interface. ``epoch``: of the controller that writes through it; every
    transaction then checks first that this epoch still leads."""

    def __init__(self, core: Core, epoch: int | None = None) -> None:
        self._core = core
        self._epoch = epoch

    def _read(self) -> AbstractContextManager[Connection]:
        return self._core.database.read()

    def _write(self, work: Callable[[WriteTransaction], T], weight: int = 1) -> T:
        """One durable transaction, see :meth:`Database.write`."""
        epoch = self._epoch
        if epoch is None:
            return self._core.database.write(work, weight)

        def checked(transaction: WriteTransaction) -> T:
            controller.check_epoch(transaction.connection, epoch)
            return work(transaction)

        return self._core.database.write(checked, weight)

    def _run(self, work: Callable[[Connection], T]) -> T:
        """A transaction that has no hooks."""
        return self._write(lambda transaction: work(transaction.connection))

    def _run_on_documents(self, work: Callable[[Connection], T]) -> T:
        """A transaction that changes documents which :attr:`Core.documents` keeps."""

        def forgetting(transaction: WriteTransaction) -> T:
            transaction.after.append(self._core.documents.forget)
            return work(transaction.connection)

        return self._write(forgetting)

    def _now(self) -> float:
        return self._core.clock.now()

    def _notify_after(self, transaction: WriteTransaction, token: SequenceToken) -> None:
        if token:
            transaction.after.append(self._core.notify)

    def _queue_damaged(self, generation: int, damaged: Sequence[int]) -> None:
        """A vector that fails its checksum is never served: it goes, and a repair entry takes its place."""
        if not damaged:
            return
        _logger.warning(
            "generation %d: stored vectors of %d items are damaged and wait for repair, first item %d",
            generation,
            len(damaged),
            damaged[0],
        )
        dimension = self._core.dimensions.of(generation)

        def queue(connection: Connection) -> None:
            gone = vectors.drop_damaged(connection, generation, dimension, damaged)
            repair.add_repairs(
                connection, generation, gone, "stored vector is damaged", _DAMAGED, self._now()
            )

        self._run(queue)

    def _check_shard(self, shard: int) -> None:
        shards = self._core.marks.shards
        if not 0 <= shard < shards:
            raise NotFound(f"shard {shard} does not exist: the store has shards 0 to {shards - 1}")


def check_limit(limit: int) -> None:
    if limit < 1:
        raise InvalidArgument(f"limit must be at least 1, got {limit}")
