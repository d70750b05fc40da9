"""The durable truth, as the rest of embedcore sees it: one transactional store, indexes are caches of it.

Everything is keyed (generation, shard). There is one sequence per shard, taken from a counter row inside
the transaction that writes; lanes follow it with :meth:`Store.read_lane`. What a lane reads is the *state*
of the items that the log names (current vector, or deleted), so replaying any part of the log twice, or
late, converges on the same index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import FailedPrecondition
from embedcore.migration_types import Migration, MigrationEvent
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


@dataclass(frozen=True, slots=True)
class ItemWrite:
    """An accepted upsert, with the vectors made for it.

    For a live generation that is neither in ``vectors`` nor fails by ``failures`` (it went live while the
    item was being encoded), the store writes a repair entry by itself.
    """

    id: str
    namespace: str = ""
    content: str | None = None
    attributes: Attributes = field(default_factory=dict)
    created_at: float | None = None
    vectors: Mapping[int, Vector] = field(default_factory=dict)  # by generation number
    failures: Mapping[int, str] = field(default_factory=dict)  # generation -> why there is no vector


@dataclass(frozen=True, slots=True)
class LaneBatch:
    """What a lane applies next: the items named by the log in (after, upto], each at its current state."""

    upto: int
    removed: NDArray[np.int64]
    ids: NDArray[np.int64]
    vectors: Vectors  # (len(ids), dim)


@dataclass(frozen=True, slots=True)
class BackfillItem:
    item: int
    id: str
    version: int
    content: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class BackfillCursor:
    """Position in recency order: everything more recent than (created_at, item) is done."""

    created_at: float
    item: int


@dataclass(frozen=True, slots=True)
class RepairEntry:
    generation: int
    item: int
    id: str
    version: int
    content: str | None
    reason: str
    attempts: int
    enqueued_at: float


@dataclass(frozen=True, slots=True)
class ShardCheck:
    shard: int
    items: int
    stored: int  # checksum kept in every transaction, unsigned 64 bit
    computed: int  # recomputed by scan in the same read transaction

    @property
    def ok(self) -> bool:
        return self.stored == self.computed


@dataclass(frozen=True, slots=True)
class Coverage:
    covered: int
    live: int

    @property
    def share(self) -> float:
        return 1.0 if self.live == 0 else self.covered / self.live


class LogPruned(FailedPrecondition):
    """Log entries that a lane would have to read are gone: rebuild its index from the stored vectors."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody still needs what comes after ``sequence`` in the shard; see :meth:`Store.hold`."""

    name: str
    shard: int
    sequence: int
    log: bool  # log entries and tombstones; False: tombstones only
    generation: int | None  # the hold ends when this generation retires


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed."""

    entries: int  # of the log
    tombstones: int


class Store(Protocol):
    """All methods may be called from any thread. Writes are durable when they return: after an fsync, or as
    the store's durability setting says."""

    @property
    def shards(self) -> int: ...
    @property
    def simulated(self) -> bool:
        """The data directory is marked as simulated: scaled time is allowed in it."""

    def close(self) -> None: ...
    def get_meta(self, key: str) -> str | None: ...
    def set_meta(self, key: str, value: str) -> None: ...
    def on_commit(self, callback: Callable[[], None]) -> None:
        """Called after every transaction that advanced a shard's sequence, in commit order."""

    # Writes. One transaction each; nothing is half-written.
    def write_items(self, writes: Sequence[ItemWrite]) -> WriteReceipt:
        """Upserts. In one transaction every live generation's vector, or a repair entry, is committed."""

    def delete_items(self, ids: Sequence[str], namespace: str = "") -> WriteReceipt:
        """Versioned tombstones; unknown ids are ignored (version 0)."""

    def write_vectors(
        self,
        generation: int,
        rows: Sequence[tuple[int, int, Vector]],
        checkpoint: tuple[str, int, Mapping[str, Any]] | None = None,
    ) -> tuple[int, int]:
        """Sequenced "vector of generation g for item i at version v", void if v is no longer current.

        Clears matching repair entries. ``checkpoint`` (name, shard, state) is saved in the same
        transaction. Returns (written, void).
        """

    # Lanes.
    def read_lane(self, generation: int, shard: int, after: int, limit: int) -> LaneBatch | None:
        """The next batch of a lane, or None when it is at the head. LogPruned when entries that this
        generation would have needed after ``after`` are gone."""

    def scan_vectors(
        self, generation: int, shard: int, after_item: int, limit: int
    ) -> tuple[NDArray[np.int64], Vectors]:
        """Live items' stored vectors by ascending dense id > after_item: the bulk read of a rebuild."""

    def head(self, shard: int) -> int:
        """The last committed sequence number of a shard."""

    # Retention: the log and the tombstones are pruned behind the slowest who needs them.
    def hold(
        self, name: str, shard: int, sequence: int, *, log: bool = True, generation: int | None = None
    ) -> None:
        """Takes a durable hold, or moves the one of this name: what comes after ``sequence`` stays, what
        nobody holds any more is pruned at once. Every live generation has the hold
        ``retention.lane_hold(number)``, to be moved to the watermark of its oldest kept snapshot, or, while
        there is none, to what its lane has applied. LogPruned when it comes too late."""

    def release(self, name: str, shard: int | None = None) -> None:
        """Gives up a hold, on all shards when None; an unknown one is ignored."""

    def holds(self) -> list[Hold]: ...
    def pruned(self, shard: int) -> int:
        """Log entries up to this sequence number are gone: a snapshot with a smaller watermark cannot be
        brought up to date any more."""

    def prune(self) -> Pruned:
        """Removes log entries and tombstones that nobody holds, in steps between which writers go on."""

    # Items.
    def get_item(self, item_id: str, namespace: str = "") -> StoredItem | None: ...
    def get_items(self, items: Sequence[int]) -> list[StoredItem]:
        """By dense number; unknown ones are left out."""

    def names(self, items: Sequence[int]) -> list[tuple[str, str] | None]:
        """(id, namespace) per dense number, from memory: on the query path. None for a number that is not
        known, e.g. of an item that was deleted and pruned while a search that had found it was under way."""

    def items_of(self, ids: Sequence[str], namespace: str = "") -> NDArray[np.int64]:
        """Dense numbers; -1 where the id is unknown or deleted."""

    def matching(self, namespace: str, attributes: Attributes) -> NDArray[np.int64] | None:
        """Live items of a namespace with equal attributes, ascending; None when that is all items."""

    def live_items(self) -> int: ...
    def sample_items(self, count: int, seed: int) -> NDArray[np.int64]:
        """A seeded random sample of live dense numbers, ascending, the same for the same contents."""

    def stored_vectors(self, generation: int, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vectors]:
        """Current-version vectors of the given items that the generation holds: (their items, rows)."""

    # Backfill, coverage, repair, checks.
    def read_backfill(
        self, generation: int, shard: int, cursor: BackfillCursor | None, limit: int
    ) -> list[BackfillItem]:
        """Live items without a current vector of the generation, most recent first, after the cursor."""

    def coverage(self, generation: int, applied: Mapping[int, int]) -> Coverage:
        """``applied``: shard -> sequence that the generation's lane has applied."""

    def missing_items(self, generation: int, limit: int) -> list[StoredItem]:
        """Live items without a current vector of the generation, oldest first."""

    def repairs(self, generation: int | None, limit: int) -> list[RepairEntry]:
        """Oldest first, highest priority first."""

    def repair_count(self, generation: int | None = None) -> int: ...
    def add_repairs(self, generation: int, items: Sequence[int], reason: str, priority: int = 0) -> int: ...
    def repair_failed(self, generation: int, item: int, reason: str) -> None: ...
    def get_checkpoint(self, name: str, generation: int, shard: int) -> dict[str, Any] | None: ...
    def put_checkpoint(self, name: str, generation: int, shard: int, state: Mapping[str, Any]) -> None: ...
    def check_shard(self, shard: int) -> ShardCheck: ...
    def verify(self) -> list[str]:
        """Broken invariants, one line each; empty is good. Reads everything, vectors included."""

    def drop_generation_vectors(self, generation: int) -> int:
        """Reclaims the vectors, repair entries and checkpoints of a retired generation."""

    # Registry documents.
    def consumers(self) -> list[Consumer]: ...
    def put_consumer(self, consumer: Consumer) -> None: ...
    def models(self) -> list[ModelSpec]: ...
    def put_model(self, spec: ModelSpec) -> None: ...
    def generations(self) -> list[Generation]: ...
    def create_generation(self, model: str, state: str, created_at: float) -> Generation:
        """The next number, from a registered model."""

    def put_generation(self, generation: Generation) -> None: ...

    # Controller documents; each call checks the leader epoch in its transaction.
    def acquire_epoch(self, owner: str) -> int:
        """Takes leadership: a larger epoch than all before; older leaders' transactions are refused."""

    def leading(self, epoch: int) -> Store:
        """The same store for the controller that has this epoch: every write through it checks, in its own
        transaction, that the epoch is still the current one, and is refused by FailedPrecondition when it
        is not. It shares everything with this store, and is not closed by itself."""

    def migrations(self) -> list[Migration]: ...
    def migration(self, migration_id: str) -> Migration | None: ...
    def put_migration(
        self,
        migration: Migration,
        events: Sequence[MigrationEvent],
        epoch: int,
        generations: Sequence[Generation] = (),
    ) -> None:
        """Migration, its new events and changed generations in one transaction."""

    def events(self, migration_id: str, after: int = 0) -> list[MigrationEvent]: ...

    # Blobs of evaluation: golden sets, evaluations, engagement totals.
    def put_blob(self, kind: str, name: str, value: bytes) -> None: ...
    def get_blob(self, kind: str, name: str) -> bytes | None: ...
    def blob_names(self, kind: str) -> list[str]: ...
    def add_engagement(
        self, migration: str, consumer: str, arm: str, totals: Mapping[str, float], simulated: bool
    ) -> None:
        """Adds to the totals of an arm (impressions, clicks, depth, depth_squared, agreed, compared)."""

    def engagement(self, migration: str, consumer: str) -> dict[str, dict[str, float]]:
        """arm -> totals; key "simulated" is 1.0 when any of it was."""


def token_of(sequences: Mapping[int, int]) -> SequenceToken:
    """A sequence token from shard -> sequence."""
    return dict(sorted(sequences.items()))
