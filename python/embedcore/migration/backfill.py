"""The backfill: re-embeds the corpus in order of recency, in idempotent chunks with a durable checkpoint.

A chunk's vectors and the checkpoint behind them are one transaction, so after a crash nothing but the chunk
that was being encoded is encoded again. Versions decide in the store: a live write that came while its text
was being encoded wins, and a deleted item stays deleted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from embedcore.errors import InvalidArgument
from embedcore.migration.context import Context, Guard
from embedcore.migration.deps import at_least
from embedcore.migration.journal import Change, Note
from embedcore.migration.plan import FILLING
from embedcore.migration.progress import CHECKPOINT, ShardProgress
from embedcore.migration.rate import RateMeter, TokenBucket
from embedcore.migration.repair import RepairWorker
from embedcore.migration_types import Migration
from embedcore.store.interface import BackfillItem, Store
from embedcore.store.retention import backfill_hold
from embedcore.types import Vector

log = logging.getLogger(__name__)

RECHECK = 60.0  # seconds of the clock before a corrupt shard is checked again
RECHECK_MACHINE = 2.0
SWEEP = 600.0  # seconds of the clock between sweeps of a shard in which nothing was missing
SWEEP_MACHINE = 5.0
IDLE = 0.2  # seconds of the machine between looks for work
_QUEUED_LOOKED_AT = 10_000


class BackfillWorker:
    """Repairs first, then chunks. ``step`` is for one thread at a time; the properties for any."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.repairs = RepairWorker(context)
        self.meter = RateMeter(context.clock)
        self._bucket = TokenBucket(context.clock)
        self._generation = 0
        self._shards: dict[int, ShardProgress] = {}
        self.stop = threading.Event()
        self.encoded = 0  # texts embedded by the backfill in this process
        self.without_content = 0

    @property
    def _store(self) -> Store:
        return self._context.store

    @property
    def corrupt_shards(self) -> tuple[int, ...]:
        return tuple(sorted(s for s, progress in list(self._shards.items()) if progress.corrupt))

    def run(self, stop: threading.Event) -> None:
        """Steps until ``stop``. An error is recorded once and tried again; it never ends the thread."""
        self.stop = stop
        self._context.journal.lead()
        guard = Guard(self._context)
        clock = self._context.clock
        while not stop.is_set():
            done: list[int] = []
            guard.run("repair", lambda: done.append(self.repairs.step()))  # noqa: B023  run at once
            if not any(done):
                guard.run("backfill", lambda: done.append(self.fill()))  # noqa: B023
            if not any(done):
                clock.wait(stop, IDLE * clock.scale)

    def step(self) -> int:
        """One batch of repairs if any is due, else one chunk; returns how many items were looked at, 0
        when there is nothing to do now."""
        return self.repairs.step() or self.fill()

    def fill(self) -> int:
        """One chunk of one shard: the one whose next item is the most recent."""
        migration = self._context.journal.running()
        if migration is None or migration.phase not in FILLING or migration.paused:
            return 0
        if migration.target in self._context.retired():
            return 0
        if migration.target != self._generation:
            self._shards = {
                shard: ShardProgress.load(self._store, migration.target, shard)
                for shard in range(self._store.shards)
            }
            self._generation = migration.target
        now = self._context.now()
        # Longer than any rest: the clock was set back.
        longest = at_least(self._context.clock, max(RECHECK, SWEEP), max(RECHECK_MACHINE, SWEEP_MACHINE))
        waiting = [p for p in self._shards.values() if not 0 < p.not_before - now <= longest]
        for progress in sorted(waiting, key=lambda p: p.recency, reverse=True):
            if self._healthy(migration, progress):
                count = self._chunk(migration, progress)
                if count:
                    return count
        self._completed(migration)
        return 0

    def _healthy(self, migration: Migration, progress: ShardProgress) -> bool:
        """The shard's checksum, verified before its first chunk in this process. A corrupt one is skipped,
        reported, and goes on from its last checkpoint once it passes; the others go on meanwhile."""
        if progress.checked:
            return True
        check = self._store.check_shard(progress.shard)
        if check.ok:
            if progress.corrupt:
                why = f"shard {progress.shard} passes its check again"
                self._context.journal.note(
                    migration.id, Note("shard_recovered", why, evidence={"shard": progress.shard})
                )
            progress.checked, progress.corrupt = True, False
            return True
        clock = self._context.clock
        progress.not_before = clock.now() + at_least(clock, RECHECK, RECHECK_MACHINE)
        if not progress.corrupt:
            progress.corrupt = True
            digests = f"checksum {check.computed:016x}, expected {check.stored:016x}"
            why = f"shard {progress.shard} skipped: {digests}; restore it, it is checked again by itself"
            evidence = {
                "shard": progress.shard,
                "items": check.items,
                "stored": f"{check.stored:016x}",
                "computed": f"{check.computed:016x}",
            }
            self._context.journal.note(migration.id, Note("corrupt_shard", why, evidence=evidence))
        return False

    def _chunk(self, migration: Migration, progress: ShardProgress) -> int:
        plan = migration.plan
        read = self._store.read_backfill
        while not (found := read(migration.target, progress.shard, progress.cursor, plan.backfill_chunk)):
            if self._end_of_sweep(migration, progress):
                return 0
        queued = self._queued(migration.target) if progress.sweep > 1 else frozenset[int]()
        items = [item for item in found if item.content is not None and item.item not in queued]
        self.without_content += sum(item.content is None for item in found)
        if items and not self._bucket.take(len(items), plan.backfill_rate, self.stop):
            return 0
        rows = self._encode(migration, items)
        after = progress.after(found[-1], len(rows))
        written, _ = self._store.write_vectors(
            migration.target, rows, (CHECKPOINT, progress.shard, after.state())
        )
        # Only what the store has committed moves the cursor.
        progress.advance(after)
        self.meter.add(written)
        return len(found)

    def _encode(self, migration: Migration, items: Sequence[BackfillItem]) -> list[tuple[int, int, Vector]]:
        if not items:
            return []
        encode = self._context.deps.encoders.encode_bulk
        model = migration.target_model
        try:
            vectors = encode(model, [item.content or "" for item in items])
            self.encoded += len(items)
            return [(item.item, item.version, row) for item, row in zip(items, vectors, strict=True)]
        except InvalidArgument:
            pass
        # One text that cannot be encoded must not hold up its chunk: it goes to the repair queue.
        rows: list[tuple[int, int, Vector]] = []
        for item in items:
            try:
                rows.append((item.item, item.version, encode(model, [item.content or ""])[0]))
                self.encoded += 1
            except InvalidArgument as error:
                log.warning("item %r not embedded: %s", item.id, error)
                self._store.add_repairs(migration.target, [item.item], error.message)
        return rows

    def _queued(self, generation: int) -> frozenset[int]:
        """Items that the repair queue has already: a later sweep leaves them to their back-off."""
        return frozenset(entry.item for entry in self._store.repairs(generation, _QUEUED_LOOKED_AT))

    def _end_of_sweep(self, migration: Migration, progress: ShardProgress) -> bool:
        """Back to the top, for what is still missing; True when the shard rests, because a sweep after the
        first found nothing to do."""
        done = progress.end_sweep()
        self._store.put_checkpoint(CHECKPOINT, migration.target, progress.shard, progress.state())
        self._pass_tombstones(migration.target, progress)
        if done:
            clock = self._context.clock
            progress.not_before = clock.now() + at_least(clock, SWEEP, SWEEP_MACHINE)
        return done

    def _pass_tombstones(self, generation: int, progress: ShardProgress) -> None:
        """A sweep has seen every delete from before it began: those tombstones need not wait for it."""
        filling = self._context.generation(generation).state == "filling"
        if progress.began is not None and filling:
            name = backfill_hold(generation)
            self._store.hold(name, progress.shard, progress.began, log=False, generation=generation)
        progress.began = self._store.head(progress.shard)

    def _completed(self, migration: Migration) -> None:
        """Every shard was swept to its end, and once more without anything to do."""
        if migration.backfilled_at is not None or not all(p.complete for p in self._shards.values()):
            return
        evidence = {
            "vectors": sum(p.written for p in self._shards.values()),
            "without_content": self.without_content,
            "repair_queue": self._store.repair_count(migration.target),
        }

        def change(current: Migration) -> Change | None:
            if current.backfilled_at is not None:
                return None
            document = current.model_copy(update={"backfilled_at": self._context.now()})
            return Change(document, [Note("backfill", "the corpus is re-embedded", evidence=evidence)])

        self._context.journal.update(migration.id, change)
