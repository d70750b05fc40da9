"""What is measured while a migration runs: coverage, what is missing, what the window has cost."""

from __future__ import annotations

import threading

from embedcore.clock import Clock
from embedcore.migration.deps import MigrationDeps, machine_seconds
from embedcore.migration_types import Migration
from embedcore.store.interface import Coverage
from embedcore.types import StoredItem

CACHE_SECONDS = 0.5  # of the machine: counting joins every live item
MISSING_LISTED = 100


class Measures:
    """Thread-safe."""

    def __init__(self, deps: MigrationDeps) -> None:
        self._store = deps.store
        self._serving = deps.serving
        self._clock: Clock = deps.clock
        self._lock = threading.Lock()
        self._coverage: dict[int, tuple[float, Coverage]] = {}
        self._heads: dict[str, int] = {}

    def coverage(self, migration: Migration, *, fresh: bool = False) -> Coverage:
        """Of the target: live items whose current version every target shard has applied / live items.

        At most ``CACHE_SECONDS`` old; ``fresh`` counts now, as a decision by hand should.
        """
        generation = migration.target
        now = machine_seconds(self._clock)
        with self._lock:
            cached = self._coverage.get(generation)
        if cached is not None and not fresh and 0 <= now - cached[0] < CACHE_SECONDS:
            return cached[1]
        counted = self._store.coverage(generation, self._serving.applied(generation))
        measured = Coverage(max(0, counted.covered - len(self._refused(generation))), counted.live)
        with self._lock:
            self._coverage[generation] = (now, measured)
        return measured

    def missing(self, migration: Migration) -> list[StoredItem]:
        """Live items that the target lacks, oldest first, at most ``MISSING_LISTED``: those without a current
        vector, and those whose vector its index refused."""
        found = [
            *self._refused(migration.target),
            *self._store.missing_items(migration.target, MISSING_LISTED),
        ]
        return sorted(found, key=lambda item: (item.created_at, item.item))[:MISSING_LISTED]

    def _refused(self, generation: int) -> list[StoredItem]:
        """Items that the store counts as covered, and whose vector the index refused."""
        refused = self._serving.refused(generation)
        return [
            item
            for item in (self._store.get_items(refused) if refused else ())
            if not item.deleted and item.held.get(generation) == item.version
        ]

    def heads(self) -> dict[str, int]:
        """Shard -> sequence, as recorded when dual-write begins."""
        return {str(shard): self._store.head(shard) for shard in range(self._store.shards)}

    def dual_writes(self, migration: Migration) -> int:
        """Sequenced writes since dual-write began, deletes included: each of the others cost one vector of
        the target. Read from the heads recorded at its start, so that a restart changes nothing."""
        if migration.dual_write_at is None:
            return 0
        with self._lock:
            start = self._heads.get(migration.id)
        if start is None:
            start = self._start(migration)
            with self._lock:
                self._heads[migration.id] = start
        return max(0, sum(self.heads().values()) - start)

    def _start(self, migration: Migration) -> int:
        for event in self._store.events(migration.id):
            if "heads" in event.evidence:
                return sum(int(value) for value in event.evidence["heads"].values())
        return sum(self.heads().values())
