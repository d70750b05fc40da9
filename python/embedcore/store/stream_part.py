"""The stream of writes as lanes and snapshots see it, and how much of it is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcore.store import lane_reads, retention, vectors
from embedcore.store.core import StorePart, check_limit
from embedcore.store.interface import Hold, LaneBatch, Pruned
from embedcore.types import Vectors


class StreamPart(StorePart):
    """See :class:`embedcore.store.interface.Store`."""

    def read_lane(self, generation: int, shard: int, after: int, limit: int) -> LaneBatch | None:
        self._check_shard(shard)
        check_limit(limit)
        dimension = self._core.dimensions.of(generation)
        with self._read() as connection:
            batch, damaged = lane_reads.read_lane(connection, generation, shard, dimension, after, limit)
        self._queue_damaged(generation, damaged)
        return batch

    def scan_vectors(
        self, generation: int, shard: int, after_item: int, limit: int
    ) -> tuple[NDArray[np.int64], Vectors]:
        self._check_shard(shard)
        check_limit(limit)
        dimension = self._core.dimensions.of(generation)
        while True:
            with self._read() as connection:
                found = vectors.scan(connection, generation, shard, dimension, after_item, limit)
            self._queue_damaged(generation, found.damaged)
            # Nothing but damaged rows is not the end of the scan.
            if found.items.size or not found.damaged:
                return found.items, found.vectors
            after_item = max(found.damaged)

    def head(self, shard: int) -> int:
        self._check_shard(shard)
        with self._read() as connection:
            return lane_reads.read_head(connection, shard)

    def hold(
        self, name: str, shard: int, sequence: int, *, log: bool = True, generation: int | None = None
    ) -> None:
        self._check_shard(shard)
        if generation is not None:
            self._core.dimensions.of(generation)
        self._run(
            lambda connection: retention.put_hold(
                connection, name, shard, int(sequence), log=log, generation=generation
            )
        )
        self._prune(shard)

    def release(self, name: str, shard: int | None = None) -> None:
        self._run(lambda connection: retention.release_hold(connection, name, shard))

    def holds(self) -> list[Hold]:
        with self._read() as connection:
            return retention.read_holds(connection)

    def pruned(self, shard: int) -> int:
        self._check_shard(shard)
        with self._read() as connection:
            return retention.read_pruned(connection, shard)

    def prune(self) -> Pruned:
        gone = [self._prune(shard) for shard in range(self._core.marks.shards)]
        return Pruned(sum(one.entries for one in gone), sum(one.tombstones for one in gone))

    def _prune(self, shard: int) -> Pruned:
        entries = tombstones = 0
        while True:
            step = self._run(lambda connection: retention.prune_step(connection, shard))
            if not (step.entries or step.tombstones):
                return Pruned(entries, tombstones)
            entries += step.entries
            tombstones += step.tombstones
