"""The store: one class that opens transactions and delegates to the modules beside it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from embedcore.clock import Clock
from embedcore.errors import FailedPrecondition, InvalidArgument, NotFound
from embedcore.migration_types import Migration, MigrationEvent
from embedcore.store import (
    backfill,
    checkpoints,
    controller,
    creation,
    evaluation_rows,
    generations,
    lane_reads,
    repair,
    vectors,
    verify,
)
from embedcore.store import items as item_reads
from embedcore.store.checks import check_attributes, check_generations, check_id, check_vectors
from embedcore.store.connection import Database, WriteTransaction
from embedcore.store.deletes import delete_items
from embedcore.store.interface import (
    BackfillCursor,
    BackfillItem,
    Coverage,
    ItemWrite,
    LaneBatch,
    RepairEntry,
    ShardCheck,
    Store,
)
from embedcore.store.late_vectors import write_vectors
from embedcore.store.names import NameCache
from embedcore.store.ownership import Ownership
from embedcore.store.writes import check_writes, write_items
from embedcore.types import (
    Attributes,
    Consumer,
    Generation,
    ModelSpec,
    SequenceToken,
    StoredItem,
    Vector,
    Vectors,
    WriteReceipt,
)

DATABASE_FILE: Final = "store.sqlite"
# Repair priority of damaged vectors: before whatever a model failed on.
_DAMAGED: Final = 10
# Rows per transaction while a generation is dropped: live writes get in between.
_DROP_ROWS: Final = 2000

_logger = logging.getLogger(__name__)


class SqlStore:
    """Implements :class:`embedcore.store.interface.Store`, whose docstrings hold here.

    All methods may be called from any thread. Writes are serialised, checked before anything changes, and
    durable (fsync) when they return; reads see one committed snapshot each and never wait for writers.
    After :meth:`close` every call raises Unavailable. Faults of the disk raise ResourceExhausted (full),
    Unavailable (read-only, locked) or DataLoss (damaged), and leave nothing half-written.
    """

    def __init__(self, ownership: Ownership, database: Database, marks: creation.Marks, clock: Clock) -> None:
        """Use :func:`embedcore.store.open_store`."""
        self.ownership = ownership
        self.data_dir: Path = ownership.data_dir
        self.database = database
        self._marks = marks
        self._clock = clock
        self._names = NameCache(database)
        self._dimensions = generations.Dimensions(database)
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._listeners_lock = threading.Lock()
        with database.read() as connection:
            self._namespaces = frozenset(item_reads.read_namespaces(connection))

    @property
    def shards(self) -> int:
        return self._marks.shards

    @property
    def simulated(self) -> bool:
        return self._marks.simulated

    def close(self) -> None:
        """Waits for the write in progress and gives the directory up. Closing twice does nothing."""
        self.database.close()
        self.ownership.release()

    def use_clock(self, clock: Clock) -> None:
        """Changes the clock of later writes: a simulated store keeps its clock's settings in its own meta."""
        self._clock = clock

    def get_meta(self, key: str) -> str | None:
        with self.database.read() as connection:
            return creation.read_meta(connection, key)

    def set_meta(self, key: str, value: str) -> None:
        with self.database.write() as transaction:
            creation.write_meta(transaction.connection, key, value)

    def on_commit(self, callback: Callable[[], None]) -> None:
        """The callback runs on the writer's thread before the next write: it must be quick (set an event)
        and must not write to the store. What it raises is logged, since the write is committed."""
        with self._listeners_lock:
            self._listeners = (*self._listeners, callback)

    def remove_on_commit(self, callback: Callable[[], None]) -> None:
        """Forgets a callback; an unknown one is ignored."""
        with self._listeners_lock:
            self._listeners = tuple(other for other in self._listeners if other != callback)

    # Writes.

    def write_items(self, writes: Sequence[ItemWrite]) -> WriteReceipt:
        if not writes:
            return WriteReceipt(token={}, versions=())
        named = {number for write in writes for number in (*write.vectors, *write.failures)}
        checked = check_writes(writes, self._dimensions.known(named))
        with self.database.write() as transaction:
            receipt = write_items(transaction.connection, writes, checked, self.shards, self._clock.now())
            namespaces = self._namespaces | {write.namespace for write in writes}
            if namespaces != self._namespaces:
                transaction.after.append(lambda: setattr(self, "_namespaces", namespaces))
            self._notify_after(transaction, receipt.token)
        return receipt

    def delete_items(self, ids: Sequence[str], namespace: str = "") -> WriteReceipt:
        if isinstance(ids, str):
            raise InvalidArgument(f"ids is the string {ids!r}: give a sequence of ids")
        for item_id in ids:
            check_id(item_id, namespace)
        if not ids:
            return WriteReceipt(token={}, versions=())
        with self.database.write() as transaction:
            receipt = delete_items(transaction.connection, ids, namespace, self._clock.now())
            self._notify_after(transaction, receipt.token if any(receipt.versions) else {})
        return receipt

    def write_vectors(
        self,
        generation: int,
        rows: Sequence[tuple[int, int, Vector]],
        checkpoint: tuple[str, int, Mapping[str, Any]] | None = None,
    ) -> tuple[int, int]:
        known = self._dimensions.known((generation,))
        check_generations((generation,), known)
        matrix = check_vectors(
            [vector for _, _, vector in rows],
            known[generation],
            generation,
            (f"number {item}" for item, _, _ in rows),
        )
        if checkpoint is not None:
            self._check_shard_number(checkpoint[1])
        checked = [
            (int(item), int(version), vector) for (item, version, _), vector in zip(rows, matrix, strict=True)
        ]
        with self.database.write() as transaction:
            written, void, token = write_vectors(transaction.connection, generation, checked, checkpoint)
            self._notify_after(transaction, token)
        return written, void

    # Lanes.

    def read_lane(self, generation: int, shard: int, after: int, limit: int) -> LaneBatch | None:
        self._check_shard_number(shard)
        _check_limit(limit)
        dimension = self._dimensions.of(generation)
        with self.database.read() as connection:
            batch, damaged = lane_reads.read_lane(connection, generation, shard, dimension, after, limit)
        self._queue_damaged(generation, damaged)
        return batch

    def scan_vectors(
        self, generation: int, shard: int, after_item: int, limit: int
    ) -> tuple[NDArray[np.int64], Vectors]:
        self._check_shard_number(shard)
        _check_limit(limit)
        dimension = self._dimensions.of(generation)
        while True:
            with self.database.read() as connection:
                found = vectors.scan(connection, generation, shard, dimension, after_item, limit)
            self._queue_damaged(generation, found.damaged)
            # Nothing but damaged rows is not the end of the scan.
            if found.items.size or not found.damaged:
                return found.items, found.vectors
            after_item = max(found.damaged)

    def head(self, shard: int) -> int:
        self._check_shard_number(shard)
        with self.database.read() as connection:
            return lane_reads.read_head(connection, shard)

    # Items.

    def get_item(self, item_id: str, namespace: str = "") -> StoredItem | None:
        """A deleted item is returned as its tombstone (``deleted`` is true)."""
        with self.database.read() as connection:
            return item_reads.get_item(connection, item_id, namespace)

    def get_items(self, items: Sequence[int]) -> list[StoredItem]:
        with self.database.read() as connection:
            return item_reads.get_items(connection, [int(item) for item in items])

    def names(self, items: Sequence[int]) -> list[tuple[str, str]]:
        return self._names.of(items)

    def items_of(self, ids: Sequence[str], namespace: str = "") -> NDArray[np.int64]:
        with self.database.read() as connection:
            return item_reads.items_of(connection, ids, namespace)

    def matching(self, namespace: str, attributes: Attributes) -> NDArray[np.int64] | None:
        check_attributes(attributes)
        if not attributes and self._namespaces == {namespace}:
            return None
        with self.database.read() as connection:
            return item_reads.matching(connection, namespace, attributes)

    def live_items(self) -> int:
        with self.database.read() as connection:
            return item_reads.count_live(connection)

    def sample_items(self, count: int, seed: int) -> NDArray[np.int64]:
        with self.database.read() as connection:
            live = item_reads.live_numbers(connection)
        if count >= live.size:
            return live
        chosen = np.random.default_rng(seed).choice(live.size, size=max(0, count), replace=False)
        return live[np.sort(chosen)]

    def stored_vectors(self, generation: int, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vectors]:
        dimension = self._dimensions.of(generation)
        wanted = np.asarray(items, dtype=np.int64).tolist()
        with self.database.read() as connection:
            found = vectors.current_vectors(connection, generation, dimension, wanted)
        self._queue_damaged(generation, found.damaged)
        return found.items, found.vectors

    # Backfill, coverage, repair, checks.

    def read_backfill(
        self, generation: int, shard: int, cursor: BackfillCursor | None, limit: int
    ) -> list[BackfillItem]:
        self._check_shard_number(shard)
        _check_limit(limit)
        with self.database.read() as connection:
            return backfill.read_backfill(connection, generation, shard, cursor, limit)

    def coverage(self, generation: int, applied: Mapping[int, int]) -> Coverage:
        with self.database.read() as connection:
            return backfill.coverage(connection, generation, applied)

    def missing_items(self, generation: int, limit: int) -> list[StoredItem]:
        _check_limit(limit)
        with self.database.read() as connection:
            return backfill.missing_items(connection, generation, limit)

    def repairs(self, generation: int | None, limit: int) -> list[RepairEntry]:
        """Within a priority, entries with fewer failed attempts come first: one that always fails does
        not keep the others waiting."""
        _check_limit(limit)
        with self.database.read() as connection:
            return repair.read_repairs(connection, generation, limit)

    def repair_count(self, generation: int | None = None) -> int:
        with self.database.read() as connection:
            return repair.count_repairs(connection, generation)

    def add_repairs(self, generation: int, items: Sequence[int], reason: str, priority: int = 0) -> int:
        self._dimensions.of(generation)
        wanted = [int(item) for item in items]
        with self.database.write() as transaction:
            return repair.add_repairs(
                transaction.connection, generation, wanted, reason, priority, self._clock.now()
            )

    def repair_failed(self, generation: int, item: int, reason: str) -> None:
        with self.database.write() as transaction:
            repair.repair_failed(transaction.connection, generation, int(item), reason)

    def get_checkpoint(self, name: str, generation: int, shard: int) -> dict[str, Any] | None:
        with self.database.read() as connection:
            return checkpoints.get_checkpoint(connection, name, generation, shard)

    def put_checkpoint(self, name: str, generation: int, shard: int, state: Mapping[str, Any]) -> None:
        with self.database.write() as transaction:
            checkpoints.put_checkpoint(transaction.connection, name, generation, shard, state)

    def check_shard(self, shard: int) -> ShardCheck:
        self._check_shard_number(shard)
        with self.database.read() as connection:
            return verify.check_shard(connection, shard)

    def verify(self) -> list[str]:
        """All broken invariants, one line each; empty is good. Reads the whole store."""
        with self.database.read() as connection:
            return verify.find_problems(connection)

    def drop_generation_vectors(self, generation: int) -> int:
        """FailedPrecondition while the generation is live. Works in steps, so that live writes go on; when
        it is interrupted, calling it again finishes the work."""
        self._dimensions.of(generation)
        dropped = 0
        while True:
            with self.database.write() as transaction:
                connection = transaction.connection
                if generation in generations.live_generations(connection):
                    raise FailedPrecondition(
                        f"generation {generation} is live and its vectors are in use: retire it first"
                    )
                count = vectors.drop_some(connection, generation, _DROP_ROWS)
                if count == 0:
                    repair.drop_generation_repairs(connection, generation)
                    checkpoints.drop_checkpoints(connection, generation)
            if count == 0:
                return dropped
            dropped += count
            self.database.release_pages()

    # Registry documents.

    def consumers(self) -> list[Consumer]:
        with self.database.read() as connection:
            return evaluation_rows.read_consumers(connection)

    def put_consumer(self, consumer: Consumer) -> None:
        with self.database.write() as transaction:
            evaluation_rows.put_consumer(transaction.connection, consumer)

    def models(self) -> list[ModelSpec]:
        with self.database.read() as connection:
            return generations.read_models(connection)

    def put_model(self, spec: ModelSpec) -> None:
        with self.database.write() as transaction:
            generations.put_model(transaction.connection, spec)

    def generations(self) -> list[Generation]:
        with self.database.read() as connection:
            return generations.read_generations(connection)

    def create_generation(self, model: str, state: str, created_at: float) -> Generation:
        with self.database.write() as transaction:
            return generations.create_generation(transaction.connection, model, state, created_at)

    def put_generation(self, generation: Generation) -> None:
        with self.database.write() as transaction:
            generations.put_generation(transaction.connection, generation)

    # Controller documents.

    def acquire_epoch(self, owner: str) -> int:
        with self.database.write() as transaction:
            return controller.acquire_epoch(transaction.connection, owner, self._clock.now())

    def migrations(self) -> list[Migration]:
        with self.database.read() as connection:
            return controller.read_migrations(connection)

    def migration(self, migration_id: str) -> Migration | None:
        with self.database.read() as connection:
            return controller.read_migration(connection, migration_id)

    def put_migration(
        self,
        migration: Migration,
        events: Sequence[MigrationEvent],
        epoch: int,
        generations: Sequence[Generation] = (),
    ) -> None:
        with self.database.write() as transaction:
            controller.put_migration(transaction.connection, migration, events, epoch, generations)

    def events(self, migration_id: str, after: int = 0) -> list[MigrationEvent]:
        with self.database.read() as connection:
            return controller.read_events(connection, migration_id, after)

    # Blobs and engagement.

    def put_blob(self, kind: str, name: str, value: bytes) -> None:
        with self.database.write() as transaction:
            evaluation_rows.put_blob(transaction.connection, kind, name, value)

    def get_blob(self, kind: str, name: str) -> bytes | None:
        with self.database.read() as connection:
            return evaluation_rows.get_blob(connection, kind, name)

    def blob_names(self, kind: str) -> list[str]:
        with self.database.read() as connection:
            return evaluation_rows.blob_names(connection, kind)

    def add_engagement(
        self, migration: str, consumer: str, arm: str, totals: Mapping[str, float], simulated: bool
    ) -> None:
        with self.database.write() as transaction:
            evaluation_rows.add_engagement(
                transaction.connection, migration, consumer, arm, totals, simulated
            )

    def engagement(self, migration: str, consumer: str) -> dict[str, dict[str, float]]:
        with self.database.read() as connection:
            return evaluation_rows.read_engagement(connection, migration, consumer)

    # Inside.

    def _notify_after(self, transaction: WriteTransaction, token: SequenceToken) -> None:
        if token:
            transaction.after.append(self._notify)

    def _notify(self) -> None:
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                _logger.exception("a commit listener failed; the write is committed")

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
        with self.database.write() as transaction:
            connection = transaction.connection
            gone = vectors.drop_damaged(connection, generation, self._dimensions.of(generation), damaged)
            repair.add_repairs(
                connection, generation, gone, "stored vector is damaged", _DAMAGED, self._clock.now()
            )

    def _check_shard_number(self, shard: int) -> None:
        if not 0 <= shard < self.shards:
            raise NotFound(f"shard {shard} does not exist: the store has shards 0 to {self.shards - 1}")


if TYPE_CHECKING:

    def _implements(store: SqlStore) -> Store:
        return store


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise InvalidArgument(f"limit must be at least 1, got {limit}")
