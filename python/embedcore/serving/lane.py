"""Lanes: each follows the sequence of one shard for one generation and applies it to one index.

Guarantee: when ``lane.applied`` is s, the index holds what the store held, at s or later, of every item
named up to s. Items in which the index found fault are on the lane's failure record instead, which outlives
the process, and hold up nobody.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from embedcore.failpoints import failpoint
from embedcore.serving.refusals import RefusalRecord
from embedcore.store.interface import Store
from embedcore.types import Vectors

# Log entries per step: large enough to amortise the read, small enough that a write is seen within
# milliseconds also behind a backfill.
STEP_LIMIT: Final = 512

_logger = logging.getLogger(__name__)


class LaneIndex(Protocol):
    """What a lane needs of an :class:`embedcore.Index`; searches go on beside it."""

    def add(self, ids: NDArray[np.int64], vectors: Vectors, threads: int = 0) -> None: ...
    def remove(self, ids: NDArray[np.int64]) -> int: ...


def apply_vectors(index: LaneIndex, ids: NDArray[np.int64], vectors: Vectors, threads: int) -> dict[int, str]:
    """Adds a batch; when the index refuses it, item by item. Returns item -> why it was refused."""
    if not len(ids):
        return {}
    try:
        index.add(ids, vectors, threads=threads)
    except Exception as error:
        _logger.warning("an index refused a batch of %d vectors (%s); adding one by one", len(ids), error)
    else:
        return {}
    failures: dict[int, str] = {}
    for row, item in enumerate(ids.tolist()):
        try:
            index.add(ids[row : row + 1], vectors[row : row + 1], threads=1)
        except Exception as error:
            failures[item] = str(error) or type(error).__name__
    return failures


class Lane:
    """One index that follows one shard of one generation. Thread-safe; steps exclude each other.

    The index is changed by this lane alone. ``applied`` is where it stands: the watermark of the snapshot
    or rebuild that filled it, 0 for an empty index.
    """

    def __init__(
        self,
        store: Store,
        generation: int,
        shard: int,
        index: LaneIndex,
        applied: int = 0,
        *,
        threads: int = 1,
    ) -> None:
        """``threads`` per add: 1 keeps the graph deterministic and leaves the cores to the searches."""
        self.generation = generation
        self.shard = shard
        self.index = index
        self._store = store
        self._threads = threads
        self._applied = applied
        self._step_lock = threading.Lock()
        self._record = RefusalRecord(store, generation, shard)
        self._failures: dict[int, str] = {}
        self._noted: set[int] = set()  # what the durable record names: the failures, and what it says there
        self._succeeded = 0
        self._failed = 0

    @property
    def applied(self) -> int:
        """The last sequence number that the index reflects."""
        return self._applied

    @property
    def lag(self) -> int:
        """Sequence numbers between the shard's head and ``applied``."""
        return max(0, self._store.head(self.shard) - self._applied)

    @property
    def failures(self) -> dict[int, str]:
        """item -> why the index refused its current vector. An item leaves the record when a later vector
        is accepted, or when it is deleted."""
        return dict(self._failures)

    def record_failures(self, failures: Mapping[int, str]) -> None:
        """Takes over what a rebuild of the index could not add. Before the first step."""
        with self._step_lock:
            self._noted = set(self._record.read() or ())
            self._note(self._noted.union(failures))
            self._failures = dict(failures)
            self._failed += len(failures)

    def retry(self, items: Sequence[int]) -> None:
        """Adds what is on the durable record, as the store has it now; what is refused again is on this
        lane's. Before the first step."""
        with self._step_lock:
            self._noted = set(items)
            ids, vectors = self._store.stored_vectors(self.generation, np.array(items, np.int64))
            self._failures = apply_vectors(self.index, ids, vectors, self._threads)
            self._failed += len(self._failures)

    def step(self, limit: int = STEP_LIMIT, threads: int | None = None) -> int:
        """Applies the next batch, of at most ``limit`` log entries; returns by how many sequence numbers
        ``applied`` moved, 0 at the head. An error of the store leaves ``applied`` as it is. ``threads``: per
        add, in place of the lane's own."""
        with self._step_lock:
            batch = self._store.read_lane(self.generation, self.shard, self._applied, limit)
            if batch is None:
                return 0
            if len(batch.removed):
                self.index.remove(batch.removed)
            failpoint("lane-mid-step")
            failures = apply_vectors(
                self.index, batch.ids, batch.vectors, self._threads if threads is None else threads
            )
            failpoint("lane-after-apply")
            if failures or self._noted:
                done = {*batch.ids.tolist(), *batch.removed.tolist()}
                kept = {item: why for item, why in self._failures.items() if item not in done}
                self._note((self._noted - done).union(failures))
                self._failures = {**kept, **failures}
            self._failed += len(failures)
            self._succeeded += len(batch.ids) + len(batch.removed) - len(failures)
            moved = batch.upto - self._applied
            self._applied = batch.upto
            return moved

    def _note(self, items: set[int]) -> None:
        """Durable before the lane moves on, and so before any snapshot that lacks these items."""
        if items != self._noted:
            self._record.write(items)
            self._noted = items

    def stats(self) -> dict[str, Any]:
        """Counters, JSON-serialisable."""
        return {
            "generation": self.generation,
            "shard": self.shard,
            "applied": self._applied,
            "lag": self.lag,
            "succeeded": self._succeeded,
            "failed": self._failed,
            "failing_items": len(self._failures),
        }
