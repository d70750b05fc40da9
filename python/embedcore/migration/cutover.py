"""Phase 4: from the last step of the plan to weight 1, consumer by consumer, and the cutover of all."""

from __future__ import annotations

from functools import partial

from embedcore.errors import FailedPrecondition
from embedcore.migration import exits
from embedcore.migration.blending import BEFORE_STEP, evaluation_period, hold
from embedcore.migration.context import Context, Guard, enforce, need_phase
from embedcore.migration.deps import at_least
from embedcore.migration.gates import OWN_GATES, evidence_of, offline_gates, result
from embedcore.migration.journal import CONTROLLER, Change, Note
from embedcore.migration.plan import final_weight, ticks_due, window_over, with_consumer
from embedcore.migration.verdict import (
    consumer_gates,
    cutover_gates,
    evaluate_offline,
    flat,
    needs_offline,
    target_coverage,
)
from embedcore.migration_types import GateResult, Migration, Phase
from embedcore.types import Consumer

# Seconds of the machine between two tries of an offline evaluation that failed.
OFFLINE_RETRY = 20.0


def start_canary(context: Context, migration: Migration, consumer: Consumer, coverage: GateResult) -> None:
    """The canary starts after coverage and the offline gate: its users are wholly on the target."""
    progress = migration.consumers[consumer.name]
    if migration.paused or progress.reverted or progress.canary_since is not None or progress.weight == 1:
        return
    if not coverage.passed or window_over(migration, context.now()):
        return
    if not _offline_ok(context, migration, consumer):
        asked = progress.gates.get("quality")
        again = at_least(context.clock, evaluation_period(context, migration), OFFLINE_RETRY)
        if asked is not None and ticks_due(asked.at, context.now(), again) == 0:
            return
        migration = _offline_again(context, migration, consumer)
    elif needs_offline(context, migration, consumer.name):
        migration = _offline_again(context, migration, consumer)
    if not _offline_ok(context, migration, consumer):
        return
    judged = migration.consumers[consumer.name]
    lift = context.judge.predict_lift(migration.id, consumer, judged, context.now())

    def change(current: Migration) -> Change | None:
        now_at = current.consumers[consumer.name]
        if current.phase is not Phase.BLENDED or now_at.reverted or now_at.canary_since is not None:
            return None
        share = current.plan.canary_share
        document = with_consumer(current, consumer.name, canary_since=context.now(), held="")
        evidence = {"consumer": consumer.name, "share": share, "lift": lift}
        why = f"{consumer.name}: {share:.0%} of its users on the target"
        return Change(document, [Note("canary", why, evidence=evidence)])

    context.journal.update(migration.id, change)


def to_full(context: Context, migration: Migration, coverage: GateResult, guard: Guard) -> None:
    """Weight 1 for each consumer that has reached the last step and whose gates all pass; together, or not
    at all, in a unified migration. A consumer that cannot be judged holds up no other."""
    if migration.phase is not Phase.BLENDED:
        return
    known = context.consumers()
    passed: dict[str, list[GateResult]] = {}
    waiting = [name for name, p in migration.consumers.items() if p.weight < 1 and name in known]
    for name in sorted(waiting):
        guard.run(
            f"weight 1 of {name}", partial(_judge_full, context, migration, known[name], coverage, passed)
        )
    if migration.plan.unified and len(passed) < len(waiting):
        return
    for name, gates in passed.items():
        _full(context, migration, name, gates)


def _judge_full(
    context: Context,
    migration: Migration,
    consumer: Consumer,
    coverage: GateResult,
    passed: dict[str, list[GateResult]],
) -> None:
    """Puts the consumer's gates into ``passed`` when all are met. The parity gate may halt everything."""
    name, progress = consumer.name, migration.consumers[consumer.name]
    gates = consumer_gates(context, migration, consumer, coverage)
    parity = next(gate for gate in gates if gate.gate == "parity")
    if parity.evidence.get("halt"):
        canary = next(gate for gate in gates if gate.gate == "engagement")
        context.judge.score_lift(migration.id, name, canary, context.now())
        exits.halt(context, migration, name, parity)
        return
    if parity.evidence.get("shown") and progress.gates.get("parity") != parity:
        migration = _lift_shown(context, migration, name, parity)
    if migration.paused or not migration.plan.auto_advance or progress.reverted:
        return
    blended = progress.gates.get("blended")
    if progress.weight < final_weight(migration.plan):
        return
    if progress.weight > 0 and (blended is None or blended.evidence.get(BEFORE_STEP)):
        return  # the last step has not stood its first periodic check yet
    # What costs no evaluation is asked first; the golden set is, when all else passes.
    others = all(gate.passed for gate in gates if gate.gate in OWN_GATES)
    if others and needs_offline(context, migration, name):
        migration = _offline_again(context, migration, consumer)
        gates = consumer_gates(context, migration, consumer, coverage)
    failed = [gate.gate for gate in gates if not gate.passed]
    if failed:
        hold(context, migration, name, f"weight 1 waits for: {', '.join(failed)}")
    else:
        passed[name] = gates


def _lift_shown(context: Context, migration: Migration, name: str, parity: GateResult) -> Migration:
    """Kept on record: once shown at any look, a lift need not be shown again at higher weights."""

    def change(current: Migration) -> Change | None:
        if current.phase is not Phase.BLENDED:
            return None
        gates = {**current.consumers[name].gates, "parity": parity}
        note = Note("evaluation", parity.summary, evidence={"gates": evidence_of([parity])})
        return Change(with_consumer(current, name, gates=gates), [note])

    return context.journal.update(migration.id, change)


def _full(context: Context, migration: Migration, name: str, gates: list[GateResult]) -> None:
    before = migration.consumers[name].weight
    canary = next(gate for gate in gates if gate.gate == "engagement")
    lift = context.judge.score_lift(migration.id, name, canary, context.now())

    def change(current: Migration) -> Change | None:
        progress = current.consumers[name]
        if current.phase is not Phase.BLENDED or progress.reverted or progress.weight != before:
            return None
        evidence = {
            "consumer": name,
            "from": before,
            "weight": 1.0,
            "gates": evidence_of(gates),
            "lift": lift,
        }
        note = Note("weight", f"{name} to 1: all {len(gates)} gates met", evidence=evidence)
        return Change(with_consumer(current, name, weight=1.0, held=""), [note])

    context.journal.update(migration.id, change)


def ready_for_cutover(context: Context, migration: Migration) -> bool:
    """Whether ``plan.auto_cutover`` may try: every consumer is at 1."""
    known = context.consumers()
    return (
        migration.phase is Phase.BLENDED
        and migration.plan.auto_cutover
        and not migration.paused
        and bool(known)
        and all(name in migration.consumers and migration.consumers[name].weight == 1 for name in known)
    )


def judge_cutover(context: Context, migration: Migration) -> tuple[Migration, list[GateResult]]:
    """All gates of all consumers as they stand now. The golden sets are evaluated again where their verdict
    is too old to decide on; what was found is on record either way."""
    coverage = target_coverage(context, migration, fresh=True)
    if coverage.passed and migration.phase is Phase.BLENDED:
        for name, consumer in context.consumers().items():
            if name in migration.consumers and needs_offline(context, migration, name):
                evaluate_offline(context, migration, consumer)
        migration = context.journal.get(migration.id)
    return migration, flat(cutover_gates(context, migration, coverage))


def cut_over(
    context: Context, migration: Migration, *, who: str = CONTROLLER, why: str = "", override: str = ""
) -> Migration:
    """Ends blending: in one transaction all reads are the target's. The source is still written, so that a
    rollback within the grace period is instant."""
    need_phase(migration, _CUTTABLE, "cutover", "there is nothing to cut over")
    if migration.target in context.retired():
        raise FailedPrecondition(f"cutover: migration {migration.id} is being aborted")
    migration, gates = judge_cutover(context, migration)
    if migration.phase is not Phase.BLENDED:
        summary = f"phase: cutover comes from blended reads, the migration is in phase {migration.phase}"
        gates.insert(0, result("phase", False, summary, context.now()))
    notes = enforce(context, migration, "cutover", gates, who=who, override=override)
    all_at_one = not any("weights" in note.evidence["skipped"] for note in notes)

    def change(current: Migration) -> Change | None:
        if current.phase is not migration.phase:
            return None
        document = current
        for name, progress in current.consumers.items():
            if all_at_one and progress.weight < 1:
                return None  # a revert came in between: it wins
            document = with_consumer(document, name, weight=1.0, held="", reverted=False)
        now = context.now()
        document = document.model_copy(update={"phase": Phase.GRACE, "cutover_at": now, "grace_lasted": 0.0})
        target = context.generation(current.target).model_copy(update={"state": "serving"})
        evidence = {"phase": "grace", "gates": evidence_of(gates)}
        note = Note(
            "phase", why or "all consumers on the target; the source is kept and written", who, evidence
        )
        return Change(document, [*notes, note], [target])

    changed = context.journal.update(migration.id, change)
    if changed.phase is not Phase.GRACE:
        raise FailedPrecondition(f"cutover: migration {migration.id} changed meanwhile; look at its status")
    context.grace.lasted(changed)  # counts from now on
    return changed


def _offline_again(context: Context, migration: Migration, consumer: Consumer) -> Migration:
    evaluate_offline(context, migration, consumer)
    return context.journal.get(migration.id)


def _offline(context: Context, migration: Migration, consumer: Consumer) -> list[GateResult]:
    return offline_gates(consumer.name, migration.consumers[consumer.name], context.now())


def _offline_ok(context: Context, migration: Migration, consumer: Consumer) -> bool:
    return all(gate.passed for gate in _offline(context, migration, consumer))


_CUTTABLE = frozenset(
    {Phase.DUAL_WRITE, Phase.BACKFILL, Phase.BLENDED, Phase.ROLLED_BACK, Phase.HALTED, Phase.DEFERRED}
)
