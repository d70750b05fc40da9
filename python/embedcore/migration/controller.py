"""The migration controller: the verbs of operators, and the loop that does what is due.

Durable state is the Migration document with its events; everything else here can be lost in a crash. Verbs
may be called from any thread and never wait for an evaluation that the loop is making.
"""

from __future__ import annotations

import builtins
import logging
import threading
from collections.abc import Iterator

from embedcore.errors import EmbedcoreError, FailedPrecondition, ResourceExhausted
from embedcore.migration import cutover, exits, reclaim, weights
from embedcore.migration.backfill import BackfillWorker
from embedcore.migration.context import Context, Guard, need_who
from embedcore.migration.deps import MigrationDeps
from embedcore.migration.grace import GraceWitness
from embedcore.migration.journal import Journal
from embedcore.migration.judge import HarnessJudge
from embedcore.migration.loop import Loop
from embedcore.migration.measures import Measures
from embedcore.migration.preflight import open_migration, retire_orphans, run_preflight
from embedcore.migration.shadow import ShadowCounts
from embedcore.migration.status import status_of
from embedcore.migration.verdict import engagement_of
from embedcore.migration_types import GateResult, Migration, MigrationEvent, MigrationStatus, Plan
from embedcore.types import Consumer

log = logging.getLogger(__name__)

TICK_SECONDS = 0.2  # of the machine
WATCH_SECONDS = 2.0  # of the machine: a watcher hears something at least this often


class MigrationController:
    """One per store. At most one migration runs at a time."""

    def __init__(self, deps: MigrationDeps) -> None:
        judge = deps.judge
        if judge is None:
            if deps.harness is None:
                raise FailedPrecondition("a migration controller needs an evaluation harness or a judge")
            judge = HarnessJudge(deps.harness)
        self._context = Context(
            deps=deps,
            journal=Journal(deps.store, deps.clock, deps.serving),
            judge=judge,
            measures=Measures(deps),
            shadow=ShadowCounts(),
            grace=GraceWitness(deps.clock),
        )
        self.backfill = BackfillWorker(self._context)
        self._loop = Loop(self._context)
        self._guard = Guard(self._context)
        self._resumed = False
        self._starting = threading.Lock()
        self._stop = threading.Event()

    # Running.

    def resume(self) -> None:
        """After a restart: takes leadership, heals what a crash left between two transactions, and goes on
        from the documents. Serving has attached the live generations by itself. On a full disk that waits
        until there is room."""
        try:
            self._take_over()
        except ResourceExhausted as error:
            log.warning("no migration goes on, and none can be started: %s", error.message)

    def _take_over(self) -> None:
        journal = self._context.journal
        journal.lead()
        running = journal.running()
        if running is not None:
            self._context.grace.lasted(running)  # counts from now on
        retire_orphans(self._context)
        journal.require_publish()
        journal.publish()
        self._resumed = True

    def tick(self) -> None:
        """Does everything that is due now. Never raises: an error is logged, recorded once as an event,
        and the step is tried again."""
        # A start judges its own pre-flight; only one that a crash cut off is taken up by the loop.
        self._loop.tick(starting=self._starting.locked)

    def run(self, stop_event: threading.Event) -> None:
        """Ticks about every 0.2 s of machine time, with the backfill on a thread of its own, until set."""
        clock = self._context.clock
        worker = threading.Thread(target=self.backfill.run, args=(stop_event,), name="backfill", daemon=True)
        while not stop_event.is_set() and not self._stop.is_set():
            if self._resumed or self._guard.run("taking over", self._take_over):
                if worker.ident is None:
                    worker.start()
                self.tick()
            clock.wait(stop_event, TICK_SECONDS * clock.scale)
        stop_event.set()
        if worker.ident is not None:
            worker.join()

    def close(self) -> None:
        """Ends :meth:`run` and all watchers."""
        self._stop.set()
        self.backfill.stop.set()
        self._context.journal.wake()

    # Looking.

    def status(self, migration_id: str = "") -> MigrationStatus:
        """An empty id means the latest. NotFound when there is none."""
        return self._status(self._context.journal.get(migration_id))

    def list(self) -> builtins.list[MigrationStatus]:
        """Oldest first."""
        return [self._status(migration) for migration in self._context.journal.all()]

    def events(self, migration_id: str = "", after: int = 0) -> builtins.list[MigrationEvent]:
        return self._context.journal.events(self._context.journal.get(migration_id).id, after)

    def watch(self, migration_id: str = "") -> Iterator[MigrationStatus]:
        """A status at once, at every change, and at least every 2 s; ends when the migration has finished or
        the controller is closed. NotFound is raised by the call, not by the first step."""
        return self._watch(self._context.journal.get(migration_id).id)

    def _watch(self, migration_id: str) -> Iterator[MigrationStatus]:
        journal = self._context.journal
        while not self._stop.is_set():
            seen = journal.version
            status = self._status(journal.get(migration_id))
            yield status
            if status.migration.finished:
                return
            journal.wait(seen, WATCH_SECONDS)

    def engagement_gate(self, consumer: Consumer, migration_id: str = "") -> GateResult:
        """The canary's evidence of a consumer as it stands."""
        return engagement_of(self._context, self._context.journal.get(migration_id), consumer)

    # Verbs. ``who`` and ``why`` are recorded; an empty id means the latest.

    def start(
        self, target_model: str, plan: Plan | None = None, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        """Judges the target by the pre-flight, then begins dual-write. GateNotMet with evidence, and the
        migration recorded as REFUSED, when a gate is not met and not overridden."""
        need_who(who)
        if not self._starting.acquire(blocking=False):
            raise FailedPrecondition("another migration is being started: wait for its pre-flight to end")
        try:
            opened = open_migration(
                self._context, target_model, plan or Plan(), who=who, why=why, override=override
            )
            begun = run_preflight(self._context, opened, who=who, override=override)
        finally:
            self._starting.release()
        self._loop.attach(begun)
        return self.status(begun.id)

    def set_weight(
        self, migration_id: str, consumer: str, weight: float, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        migration = self._named(migration_id, who)
        return self._status(
            weights.set_weight(
                self._context, migration, consumer, weight, who=who, why=why, override=override
            )
        )

    def pause(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        migration = self._named(migration_id, who)
        return self._status(exits.set_paused(self._context, migration, True, who=who, why=why))

    def unpause(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        """What ``migrate resume`` does; :meth:`resume` is for restarts."""
        migration = self._named(migration_id, who)
        return self._status(exits.set_paused(self._context, migration, False, who=who, why=why))

    def revert(self, migration_id: str, consumer: str, *, who: str, why: str = "") -> MigrationStatus:
        migration = self._named(migration_id, who)
        return self._status(exits.revert(self._context, migration, consumer, who=who, why=why))

    def cutover(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        migration = self._named(migration_id, who)
        return self._status(cutover.cut_over(self._context, migration, who=who, why=why, override=override))

    def rollback(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        migration = self._named(migration_id, who)
        return self._status(exits.rollback(self._context, migration, who=who, why=why))

    def abort(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        migration = exits.begin_abort(self._context, self._named(migration_id, who), who=who, why=why)
        return self._status(self._reclaimed(migration))

    def decommission(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        migration = reclaim.begin_decommission(
            self._context, self._named(migration_id, who), who=who, why=why, override=override
        )
        return self._status(self._reclaimed(migration))

    def extend_window(self, migration_id: str, seconds: float, *, who: str, why: str) -> MigrationStatus:
        """Lets the window go on for ``seconds``; ``why`` must say what for."""
        migration = self._named(migration_id, who)
        return self._status(exits.extend_window(self._context, migration, seconds, who=who, why=why))

    # Inside.

    def _named(self, migration_id: str, who: str) -> Migration:
        need_who(who)
        self._context.journal.lead()
        return self._context.journal.get(migration_id)

    def _reclaimed(self, migration: Migration) -> Migration:
        """The reclaiming itself may fail and be repeated by the loop: what was decided stands."""
        if migration.finished:
            return migration
        try:
            return reclaim.reclaim(self._context, migration)
        except EmbedcoreError:
            log.exception("reclaiming after %s goes on in the background", migration.id)
            return self._context.journal.get(migration.id)

    def _status(self, migration: Migration) -> MigrationStatus:
        return status_of(self._context, migration, self.backfill)


__all__ = ["MigrationController", "MigrationDeps"]
