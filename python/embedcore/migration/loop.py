"""One tick: everything that is due now, step by step, each step guarded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from embedcore.migration import blending, cutover, exits, reclaim
from embedcore.migration.consistency import ConsistencyJob
from embedcore.migration.context import Context, Guard
from embedcore.migration.deps import at_least
from embedcore.migration.gates import grace_gate
from embedcore.migration.grace import RECORD, RECORD_MACHINE
from embedcore.migration.journal import CONTROLLER, Change, Note
from embedcore.migration.plan import ending, window_over
from embedcore.migration.preflight import run_preflight
from embedcore.migration.shadow import add
from embedcore.migration.verdict import target_coverage
from embedcore.migration_types import ConsumerProgress, Migration, Phase

SHADOW_FLUSH = 1.0  # seconds of the machine between writes of the shadow counts


class Loop:
    """``tick`` is serialised: a tick that finds another one running returns at once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._guard = Guard(context)
        self._ticking = threading.Lock()
        self._consistency = ConsistencyJob(context)
        self._attached: set[int] = set()
        self._refitted: set[str] = set()
        self._window_noted = ""
        self._flushed_at = 0.0

    def tick(self, starting: Callable[[], bool] = lambda: False) -> None:
        """``starting``: whether a call of this process is judging a pre-flight now."""
        if not self._ticking.acquire(blocking=False):
            return
        try:
            self._guard.run("routes", self._context.journal.publish)
            self._guard.run("consistency", self._consistency.tick)
            self._take_up_preflight(starting)
            self._migration()
        finally:
            self._ticking.release()

    def _take_up_preflight(self, starting: Callable[[], bool]) -> None:
        """A pre-flight that a crash cut off is judged again, with the override it was started with."""
        # Asked before the document is read: what is still in its pre-flight then has nobody to judge it.
        if starting():
            return
        migration = self._context.journal.running()
        if migration is None or migration.phase is not Phase.PREFLIGHT or starting():
            return
        started = next(e for e in self._context.journal.events(migration.id) if e.what == "start")
        override = str(started.evidence.get("override", ""))

        def judge() -> None:
            self.attach(run_preflight(self._context, migration, who=migration.created_by, override=override))

        self._guard.run("pre-flight", judge)

    def attach(self, migration: Migration) -> None:
        """Gives the target its indexes and lanes; does nothing when this process has done so."""
        if migration.target in self._attached or not migration.target:
            return
        self._context.deps.serving.attach_generation(self._context.generation(migration.target))
        self._attached.add(migration.target)
        self._context.journal.require_publish()
        self._context.journal.publish()

    def _migration(self) -> None:
        migration = self._context.journal.running()
        if migration is None or migration.phase is Phase.PREFLIGHT:
            self._stop_shadow()
            return
        if ending(migration, self._context.retired()):
            self._stop_shadow()
            self._guard.run("reclaim", lambda: reclaim.reclaim(self._context, migration))
            return
        if not self._guard.run("attach", lambda: self.attach(migration)):
            return
        for step in (
            self._new_consumers,
            self._begin_backfill,
            self._window,
            self._calibrate,
            self._shadow,
            self._periodic,
            self._steps,
            self._canaries,
            self._to_full,
            self._cutover,
            self._grace,
        ):
            self._run(step.__name__.strip("_"), step)

    def _run(self, name: str, step: Callable[[Migration], None]) -> None:
        """One step on the newest document."""
        migration = self._context.journal.running()
        if migration is not None and migration.phase is not Phase.PREFLIGHT:
            self._guard.run(name.replace("_", " "), lambda: step(migration))

    def _new_consumers(self, migration: Migration) -> None:
        """A consumer registered meanwhile takes part: the cutover would move it as well."""
        new = sorted(set(self._context.consumers()) - set(migration.consumers))
        if not new:
            return

        def change(current: Migration) -> Change | None:
            consumers = {name: ConsumerProgress() for name in new} | dict(current.consumers)
            document = current.model_copy(update={"consumers": consumers})
            return Change(document, [Note("consumer", f"{', '.join(new)} joined", evidence={"names": new})])

        self._context.journal.update(migration.id, change)

    def _begin_backfill(self, migration: Migration) -> None:
        def change(current: Migration) -> Change | None:
            if current.phase is not Phase.DUAL_WRITE:
                return None
            note = Note(
                "phase", "every write reaches both: the backfill begins", evidence={"phase": "backfill"}
            )
            return Change(current.model_copy(update={"phase": Phase.BACKFILL}), [note])

        if migration.phase is Phase.DUAL_WRITE:
            self._context.journal.update(migration.id, change)

    def _window(self, migration: Migration) -> None:
        """Says once that the window is over; defers a unified migration."""
        key = f"{migration.id}/{migration.window_until}"
        if not window_over(migration, self._context.now()) or self._window_noted == key:
            return
        self._window_noted = key
        if migration.plan.unified and migration.phase in exits.REVERTIBLE:
            exits.defer(self._context, migration)
            return
        why = "the window is over: weight increases and cutover are refused until it is extended"
        evidence = {"until": migration.window_until}
        last = [e for e in self._context.journal.events(migration.id) if e.what == "window"]
        if not last or last[-1].evidence != evidence:
            self._context.journal.note(migration.id, Note("window", why, evidence=evidence))

    def _calibrate(self, migration: Migration) -> None:
        if migration.phase in (Phase.BACKFILL, Phase.BLENDED):
            blending.calibrate(self._context, migration, self._refitted)

    def _shadow(self, migration: Migration) -> None:
        """Runs while reads are blended and the target is complete: compared with a target that still
        misses items, decisions would differ for that reason alone."""
        wanted = migration.plan.shadow_share > 0 and migration.phase is Phase.BLENDED
        if not wanted:
            self._stop_shadow()
            return
        begun = any(p.shadow_since is not None for p in migration.consumers.values())
        if not begun and not target_coverage(self._context, migration).passed:
            return
        shadow = self._context.shadow
        if shadow.running_on != migration.target:
            self._context.deps.serving.set_shadow(
                migration.plan.shadow_share, migration.target, shadow.record
            )
            shadow.running_on = migration.target
        late = [name for name, p in migration.consumers.items() if p.shadow_since is None]
        now = self._context.now()
        flush = at_least(self._context.clock, 0.0, SHADOW_FLUSH)
        counts = shadow.drain() if late or not 0 <= now - self._flushed_at < flush else {}
        if not late and not counts:
            return
        self._flushed_at = now

        def change(current: Migration) -> Change | None:
            if current.phase is not Phase.BLENDED:
                return None
            consumers = dict(current.consumers)
            for name, compared in counts.items():
                if name in consumers:
                    consumers[name] = add(consumers[name], compared)
            for name in late:
                consumers[name] = consumers[name].model_copy(update={"shadow_since": now})
            why = f"{current.plan.shadow_share:.1%} of live queries asked of both, compared, never returned"
            notes = [Note("shadow", why, evidence={"consumers": late})] if late else []
            return Change(current.model_copy(update={"consumers": consumers}), notes)

        try:
            self._context.journal.update(migration.id, change)
        except BaseException:
            shadow.put_back(counts)
            raise

    def _stop_shadow(self) -> None:
        shadow = self._context.shadow
        if shadow.running_on:
            self._context.deps.serving.set_shadow(0.0, shadow.running_on, None)
            shadow.running_on = 0
            shadow.drain()

    def _periodic(self, migration: Migration) -> None:
        """Guarded one by one, as all that is asked per consumer: one that cannot be evaluated must not keep
        another from being put back."""
        for name, consumer in self._context.consumers().items():
            if name in migration.consumers:
                check = partial(blending.check_blended, self._context, migration, consumer)
                self._guard.run(f"check of {name}", check)

    def _steps(self, migration: Migration) -> None:
        blending.take_step(self._context, migration, self._guard)

    def _canaries(self, migration: Migration) -> None:
        if migration.phase is not Phase.BLENDED:
            return
        coverage = target_coverage(self._context, migration)
        for name, consumer in self._context.consumers().items():
            if name in migration.consumers:
                start = partial(cutover.start_canary, self._context, migration, consumer, coverage)
                self._guard.run(f"canary of {name}", start)

    def _to_full(self, migration: Migration) -> None:
        if migration.phase is Phase.BLENDED:
            coverage = target_coverage(self._context, migration)
            cutover.to_full(self._context, migration, coverage, self._guard)

    def _cutover(self, migration: Migration) -> None:
        """By the plan: asked with all gates, without recording a refusal at every tick."""
        if not cutover.ready_for_cutover(self._context, migration):
            return
        migration, gates = cutover.judge_cutover(self._context, migration)
        if all(gate.passed for gate in gates):
            cutover.cut_over(self._context, migration, who=CONTROLLER)

    def _grace(self, migration: Migration) -> None:
        if migration.phase is not Phase.GRACE:
            return
        lasted = self._context.grace.lasted(migration)
        every = at_least(self._context.clock, RECORD, RECORD_MACHINE)
        if migration.grace_lasted < migration.plan.grace_seconds and lasted - migration.grace_lasted >= every:
            self._record_grace(migration, lasted)
        if not migration.plan.auto_cutover or migration.paused:
            return
        if not grace_gate(migration, lasted, self._context.now()).passed:
            return
        if all(gate.passed for gate in reclaim.decommission_gates(self._context, migration)):
            begun = reclaim.begin_decommission(
                self._context, migration, who=CONTROLLER, why="grace is over", override=""
            )
            reclaim.reclaim(self._context, begun)

    def _record_grace(self, migration: Migration, lasted: float) -> None:
        def change(current: Migration) -> Change | None:
            if current.phase is not Phase.GRACE or current.cutover_at != migration.cutover_at:
                return None
            return Change(current.model_copy(update={"grace_lasted": lasted}))

        self._context.journal.update(migration.id, change)
