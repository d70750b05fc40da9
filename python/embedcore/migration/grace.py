"""How long a grace period has lasted: only time that a running process has witnessed counts.

Within a process time goes on steadily; a new one begins with whatever the machine's clock says by then. Set
forward in between, it would end the grace period at once, and the source would be gone. So what was witnessed
is on record, and from the last record to the next start nothing counts: at worst the period lasts longer.
"""

from __future__ import annotations

import threading

from embedcore.clock import Clock
from embedcore.migration_types import Migration

RECORD = 60.0  # seconds of the clock between two records
RECORD_MACHINE = 1.0


class GraceWitness:
    """Of one process. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._of: tuple[str, float | None] | None = None  # the migration and when it was cut over
        self._began = 0.0  # when this process first saw it
        self._before = 0.0  # what was on record by then

    def lasted(self, migration: Migration) -> float:
        """Seconds. Counts from the first call of this process for this cutover on."""
        if migration.cutover_at is None:
            return 0.0
        with self._lock:
            now = self._clock.now()
            if self._of != (migration.id, migration.cutover_at):
                self._of = (migration.id, migration.cutover_at)
                self._began, self._before = now, migration.grace_lasted
            return self._before + max(0.0, now - self._began)
