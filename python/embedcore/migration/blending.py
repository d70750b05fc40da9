"""Blended reads: calibration, the steps of the plan, and the periodic check of every blended consumer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

from embedcore.migration.context import Context, Guard, only_if
from embedcore.migration.deps import at_least
from embedcore.migration.gates import evidence_of
from embedcore.migration.journal import CONTROLLER, Change, Note
from embedcore.migration.plan import due_step, ticks_due, window_over, with_consumer
from embedcore.migration_types import ConsumerProgress, GateResult, Migration, Phase
from embedcore.types import Consumer

# However time is scaled, one consumer is not evaluated more often than this, in seconds of the machine:
# live queries need its cores.
EVALUATION_GAP = 4.0
# The calibration is fitted again once the target is this complete: the first fit saw the newest items only.
COMPLETE = 0.99
# Evidence of a verdict on a weight that no live query had been answered with yet.
BEFORE_STEP = "before_step"


def calibrate(context: Context, migration: Migration, refitted: set[str]) -> None:
    """From ``blend_coverage`` on: fits the calibration and opens the blended phase; fits it once more when
    the target is complete. ``refitted`` remembers the migrations for which that was done."""
    coverage = context.measures.coverage(migration)
    first = migration.phase is Phase.BACKFILL
    if coverage.live == 0 or coverage.share < migration.plan.blend_coverage:
        return
    if not first and (coverage.share <= COMPLETE or migration.id in refitted):
        return
    if not first and _refitted(context, migration):
        refitted.add(migration.id)
        return
    fitted = context.judge.calibrate(migration.source, migration.target).hex()
    evidence = {"coverage": coverage.share, "covered": coverage.covered, "bytes": len(fitted) // 2}
    note = Note(
        "calibration",
        f"scores of the source mapped onto the target's at {coverage.share:.1%}",
        evidence=evidence,
    )

    def change(current: Migration) -> Change | None:
        if current.phase is Phase.BACKFILL:
            document = current.model_copy(
                update={"calibration": fitted, "phase": Phase.BLENDED, "blended_at": context.now()}
            )
            why = f"coverage {coverage.share:.1%}: blended reads may begin"
            return Change(document, [note, Note("phase", why, evidence={"phase": "blended"})])
        if current.phase is Phase.BLENDED:
            return Change(current.model_copy(update={"calibration": fitted}), [note])
        return None

    context.journal.update(migration.id, change)


def _refitted(context: Context, migration: Migration) -> bool:
    """Whether a calibration was fitted on the complete target: told by the record, also after a restart."""
    return any(
        event.what == "calibration" and float(event.evidence.get("coverage", 0)) > COMPLETE
        for event in context.journal.events(migration.id)
    )


def evaluation_period(context: Context, migration: Migration) -> float:
    return at_least(context.clock, migration.plan.evaluate_every_seconds, EVALUATION_GAP)


def check_blended(context: Context, migration: Migration, consumer: Consumer) -> None:
    """The periodic check of a consumer at 0 < w < 1; one that fails holds the plan, or reverts."""
    progress = migration.consumers[consumer.name]
    if migration.phase is not Phase.BLENDED or not 0 < progress.weight < 1:
        return
    due = ticks_due(progress.evaluated_at, context.now(), evaluation_period(context, migration))
    if due == 0:
        return
    every = migration.plan.evaluate_every_seconds
    overdue = (
        0 if progress.evaluated_at is None else int((context.now() - progress.evaluated_at) // every) - 1
    )
    gate = judge_blended(context, migration, consumer, progress.weight)
    revert = not gate.passed and migration.plan.auto_revert
    names = [consumer.name]
    if revert and migration.plan.unified:
        names = sorted(migration.consumers)

    def change(current: Migration) -> Change:
        evidence = {
            "consumer": consumer.name,
            "weight": progress.weight,
            "coalesced": max(0, overdue),
            "gates": evidence_of([gate]),
        }
        notes = [Note("evaluation", gate.summary, evidence=evidence)]
        document = _with_gate(current, consumer.name, gate, evaluated_at=gate.at)
        if revert:
            for name in names:
                held = f"reverted: {gate.summary}"
                document = with_consumer(
                    document, name, weight=0.0, reverted=True, canary_since=None, held=held
                )
            notes.append(Note("revert", gate.summary, CONTROLLER, evidence))
        elif not gate.passed:
            document = with_consumer(document, consumer.name, held=f"held: {gate.summary}")
        return Change(document, notes)

    context.journal.update(migration.id, only_if(_at(consumer.name, progress), change))


def take_step(context: Context, migration: Migration, guard: Guard) -> None:
    """Raises each consumer by the step of the plan whose day has come, if its coverage and its gate allow.

    The gate is the blended evaluation *at the step's weight*, made before the step is taken: no consumer
    sees a blend that was not measured. In a unified migration all take it together or none. A consumer that
    cannot be evaluated holds up no other.
    """
    if migration.phase is not Phase.BLENDED or migration.paused or not migration.plan.auto_advance:
        return
    known = context.consumers()
    gates: dict[str, GateResult] = {}
    wanted: dict[str, float] = {}
    for name in sorted(migration.consumers):
        progress = migration.consumers[name]
        step = due_step(migration.plan, migration.dual_write_at or 0.0, context.now(), progress.weight)
        if name not in known or step is None or (progress.reverted and not migration.plan.unified):
            continue
        wanted[name] = step.weight
        guard.run(
            f"step of {name}", partial(_judge_step, context, migration, known[name], step.weight, gates)
        )
    ready = [n for n, gate in gates.items() if gate.passed and not migration.consumers[n].reverted]
    if migration.plan.unified and len(ready) < len(wanted):
        return
    for name in ready:
        _raise(context, migration, name, wanted[name], gates[name])


def _judge_step(
    context: Context, migration: Migration, consumer: Consumer, weight: float, gates: dict[str, GateResult]
) -> None:
    gate = _step_gate(context, migration, consumer, weight)
    if gate is not None:
        gates[consumer.name] = gate


def _step_gate(
    context: Context, migration: Migration, consumer: Consumer, weight: float
) -> GateResult | None:
    """The verdict on a step, None while it cannot be judged; why it waits is put into ``held``."""
    progress = migration.consumers[consumer.name]
    step = f"step to {weight:g}"
    if window_over(migration, context.now()):
        hold(context, migration, consumer.name, f"{step} refused: the window is over")
        return None
    if context.measures.coverage(migration).share < migration.plan.blend_coverage:
        hold(
            context,
            migration,
            consumer.name,
            f"{step} waits for coverage {migration.plan.blend_coverage:.0%}",
        )
        return None
    last = progress.gates.get("blended")
    judged = last is not None and last.evidence.get("weight") == weight
    if (
        last is not None
        and judged
        and not ticks_due(last.at, context.now(), evaluation_period(context, migration))
    ):
        return last
    gate = judge_blended(context, migration, consumer, weight)
    gate = gate.model_copy(update={"evidence": {**gate.evidence, BEFORE_STEP: True}})

    def change(current: Migration) -> Change:
        document = _with_gate(current, consumer.name, gate)
        held = "" if gate.passed else f"{step} held: {gate.summary}"
        document = with_consumer(document, consumer.name, held=held)
        evidence = {"consumer": consumer.name, "weight": weight, "gates": evidence_of([gate])}
        return Change(document, [Note("evaluation", f"before the {step}: {gate.summary}", evidence=evidence)])

    context.journal.update(migration.id, only_if(_at(consumer.name, progress), change))
    return gate


def _raise(context: Context, migration: Migration, name: str, weight: float, gate: GateResult) -> None:
    progress = migration.consumers[name]

    def change(current: Migration) -> Change:
        document = with_consumer(current, name, weight=weight, held="", evaluated_at=gate.at)
        day = (context.now() - (current.dual_write_at or 0.0)) / 86_400
        evidence = {
            "consumer": name,
            "from": progress.weight,
            "weight": weight,
            "day": day,
            "gates": evidence_of([gate]),
        }
        return Change(document, [Note("weight", f"{name} to {weight:g} by the plan", evidence=evidence)])

    context.journal.update(migration.id, only_if(_at(name, progress), change))


def judge_blended(context: Context, migration: Migration, consumer: Consumer, weight: float) -> GateResult:
    """A fresh verdict on a weight. The subset is drawn by seed, consumer and time: not the same each time."""
    now = context.now()
    tick = int((now - (migration.dual_write_at or now)) // migration.plan.evaluate_every_seconds)
    key = f"{context.deps.seed}/{migration.id}/{consumer.name}/{tick}"
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())
    gate = context.judge.blended(consumer, migration.source, migration.target, weight, migration.plan, seed)
    evidence = {**gate.evidence, "weight": weight, "subset_seed": seed}
    return gate.model_copy(update={"gate": "blended", "at": now, "evidence": evidence})


def hold(context: Context, migration: Migration, name: str, why: str) -> None:
    """Says why the plan does not advance a consumer; recorded when the reason changes."""
    if migration.consumers[name].held == why:
        return

    def change(current: Migration) -> Change | None:
        if current.consumers[name].held == why or current.consumers[name].reverted:
            return None
        note = Note("held", f"{name}: {why}" if why else f"{name} goes on")
        return Change(with_consumer(current, name, held=why), [note])

    context.journal.update(migration.id, change)


def _with_gate(migration: Migration, name: str, gate: GateResult, **changes: object) -> Migration:
    gates = {**migration.consumers[name].gates, gate.gate: gate}
    return with_consumer(migration, name, gates=gates, **changes)


def _at(name: str, progress: ConsumerProgress) -> Callable[[Migration], bool]:
    """True while the consumer is where it was when it was judged."""
    return lambda current: (
        current.phase is Phase.BLENDED
        and name in current.consumers
        and current.consumers[name].weight == progress.weight
        and current.consumers[name].reverted == progress.reverted
    )
