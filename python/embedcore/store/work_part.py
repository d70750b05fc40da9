"""Work that goes through the store: backfill, coverage, repair, checkpoints, checks, reclaiming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from embedcore.errors import FailedPrecondition
from embedcore.store import backfill, checkpoints, generations, repair, vectors, verify
from embedcore.store.core import StorePart, check_limit
from embedcore.store.interface import BackfillCursor, BackfillItem, Coverage, RepairEntry, ShardCheck
from embedcore.types import StoredItem

# Rows per transaction while a generation is dropped: live writes get in between.
_DROP_ROWS: Final = 2000


class WorkPart(StorePart):
    """See :class:`embedcore.store.interface.Store`."""

    def read_backfill(
        self, generation: int, shard: int, cursor: BackfillCursor | None, limit: int
    ) -> list[BackfillItem]:
        self._check_shard(shard)
        check_limit(limit)
        with self._read() as connection:
            return backfill.read_backfill(connection, generation, shard, cursor, limit)

    def coverage(self, generation: int, applied: Mapping[int, int]) -> Coverage:
        with self._read() as connection:
            return backfill.coverage(connection, generation, applied)

    def missing_items(self, generation: int, limit: int) -> list[StoredItem]:
        check_limit(limit)
        with self._read() as connection:
            return backfill.missing_items(connection, generation, limit)

    def repairs(self, generation: int | None, limit: int) -> list[RepairEntry]:
        """Within a priority, entries with fewer failed attempts come first: one that always fails does
        not keep the others waiting."""
        check_limit(limit)
        with self._read() as connection:
            return repair.read_repairs(connection, generation, limit)

    def repair_count(self, generation: int | None = None) -> int:
        with self._read() as connection:
            return repair.count_repairs(connection, generation)

    def add_repairs(self, generation: int, items: Sequence[int], reason: str, priority: int = 0) -> int:
        self._core.dimensions.of(generation)
        wanted = [int(item) for item in items]
        return self._run(
            lambda connection: repair.add_repairs(
                connection, generation, wanted, reason, priority, self._now()
            )
        )

    def repair_failed(self, generation: int, item: int, reason: str) -> None:
        self._run(lambda connection: repair.repair_failed(connection, generation, int(item), reason))

    def get_checkpoint(self, name: str, generation: int, shard: int) -> dict[str, Any] | None:
        with self._read() as connection:
            return checkpoints.get_checkpoint(connection, name, generation, shard)

    def put_checkpoint(self, name: str, generation: int, shard: int, state: Mapping[str, Any]) -> None:
        self._run(lambda connection: checkpoints.put_checkpoint(connection, name, generation, shard, state))

    def check_shard(self, shard: int) -> ShardCheck:
        self._check_shard(shard)
        with self._read() as connection:
            return verify.check_shard(connection, shard)

    def verify(self) -> list[str]:
        """All broken invariants, one line each; empty is good. Reads the whole store."""
        with self._read() as connection:
            return verify.find_problems(connection)

    def drop_generation_vectors(self, generation: int) -> int:
        """FailedPrecondition while the generation is live. Works in steps, so that live writes go on; when
        it is interrupted, calling it again finishes the work."""
        self._core.dimensions.of(generation)

        def step(connection: Connection) -> int:
            if generation in generations.live_generations(connection):
                raise FailedPrecondition(
                    f"generation {generation} is live and its vectors are in use: retire it first"
                )
            count = vectors.drop_some(connection, generation, _DROP_ROWS)
            if count == 0:
                repair.drop_generation_repairs(connection, generation)
                checkpoints.drop_checkpoints(connection, generation)
            return count

        dropped = 0
        while count := self._run(step):
            dropped += count
            self._core.database.release_pages()
        return dropped
