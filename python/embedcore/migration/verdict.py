"""Everything that stands between a consumer and weight 1, assembled: the intersection of its gates."""

from __future__ import annotations

from collections.abc import Sequence

from embedcore.evaluation.gates import coverage_gate
from embedcore.migration.context import Context, only_if
from embedcore.migration.deps import at_least
from embedcore.migration.gates import (
    OWN_GATES,
    evidence_of,
    offline_gates,
    parity_gate,
    shadow_gate,
    weights_gate,
    window_gate,
)
from embedcore.migration.journal import Change, Note
from embedcore.migration.plan import with_consumer
from embedcore.migration_types import ConsumerProgress, GateResult, Migration, Phase
from embedcore.types import Consumer

# An evaluation of the whole golden set stands for this long, in seconds of the machine, when time is scaled
# so that the plan's period passes faster than the evaluation takes.
OFFLINE_GAP = 120.0


def target_coverage(context: Context, migration: Migration, *, fresh: bool = False) -> GateResult:
    """Coverage must exceed ``cutover_coverage``. ``fresh``, for a decision: counted now, and the missing
    items are listed by age, oldest first, which is too much work for every tick."""
    measured = context.measures.coverage(migration, fresh=fresh)
    missing = context.measures.missing(migration) if fresh and measured.covered < measured.live else []
    return coverage_gate(measured, missing, migration.plan, at=context.now())


def engagement_of(context: Context, migration: Migration, consumer: Consumer) -> GateResult:
    """The canary's evidence as it stands."""
    progress = migration.consumers.get(consumer.name, ConsumerProgress())
    arms = context.store.engagement(migration.id, consumer.name)
    gate = context.judge.engagement(consumer, progress, arms, migration.plan, context.now())
    return gate.model_copy(update={"gate": "engagement"})


def consumer_gates(
    context: Context, migration: Migration, consumer: Consumer, coverage: GateResult
) -> list[GateResult]:
    """What a consumer needs for weight 1. Nothing is evaluated here: offline verdicts are those on record."""
    now = context.now()
    progress = migration.consumers.get(consumer.name, ConsumerProgress())
    canary = engagement_of(context, migration, consumer)
    gates = [
        window_gate(migration, now),
        coverage,
        *offline_gates(consumer.name, progress, now),
        canary,
        parity_gate(
            consumer,
            progress,
            canary,
            now,
            lambda gain: context.judge.fitted_lift(migration.id, consumer.name, gain),
        ),
        shadow_gate(migration, consumer.name, now),
    ]
    blended = progress.gates.get("blended")
    if blended is not None and 0 < progress.weight < 1 and blended.evidence.get("weight") == progress.weight:
        gates.append(blended)
    return gates


def cutover_gates(
    context: Context, migration: Migration, coverage: GateResult
) -> dict[str, list[GateResult]]:
    """consumer -> gates; key "" holds what is asked of the migration as a whole."""
    known = context.consumers()
    gates = {name: consumer_gates(context, migration, consumer, coverage) for name, consumer in known.items()}
    gates[""] = [weights_gate(migration, known, context.now())]
    return gates


def flat(gates: dict[str, list[GateResult]]) -> list[GateResult]:
    """All of them once: a gate that is the same for every consumer is not repeated."""
    found: list[GateResult] = []
    for listed in gates.values():
        found += [gate for gate in listed if gate not in found]
    return found


def needs_offline(context: Context, migration: Migration, consumer: str) -> bool:
    """The offline verdict is missing, or older than it may be to decide something."""
    progress = migration.consumers.get(consumer, ConsumerProgress())
    offline = [gate for name, gate in progress.gates.items() if name not in OWN_GATES]
    if not offline:
        return True
    limit = at_least(context.clock, migration.plan.evaluate_every_seconds, OFFLINE_GAP)
    return not 0 <= context.now() - min(gate.at for gate in offline) <= limit


def evaluate_offline(context: Context, migration: Migration, consumer: Consumer) -> Sequence[GateResult]:
    """The whole golden set on the target as it stands, put on record."""
    now = context.now()
    judged = context.judge.offline(consumer, migration.source, migration.target, migration.plan)
    gates = [gate.model_copy(update={"at": now}) for gate in judged]

    def change(current: Migration) -> Change:
        kept = {
            name: gate for name, gate in current.consumers[consumer.name].gates.items() if name in OWN_GATES
        }
        document = with_consumer(
            current, consumer.name, gates={**kept, **{gate.gate: gate for gate in gates}}
        )
        failed = [gate.summary for gate in gates if not gate.passed]
        why = "; ".join(failed) if failed else f"{consumer.name}: all {len(gates)} offline gates met"
        evidence = {"consumer": consumer.name, "gates": evidence_of(gates)}
        return Change(document, [Note("evaluation", why, evidence=evidence)])

    context.journal.update(
        migration.id,
        only_if(lambda m: not m.finished and consumer.name in m.consumers, change),
    )
    return gates


def blockers(context: Context, migration: Migration) -> tuple[str, ...]:
    """What is missing for the cutover, one line each, in plain words; empty when nothing is, and after it."""
    if migration.phase not in _BEFORE_CUTOVER:
        return ()
    if migration.phase is Phase.PREFLIGHT:
        return ("the pre-flight is running",)
    gates = flat(cutover_gates(context, migration, target_coverage(context, migration)))
    lines = [gate.summary for gate in gates if not gate.passed]
    lines += [f"{name}: {p.held}" for name, p in sorted(migration.consumers.items()) if p.reverted and p.held]
    if migration.paused:
        lines.append("the migration is paused")
    if migration.phase is not Phase.BLENDED:
        lines.append(f"the migration is in phase {migration.phase}")
    return tuple(lines)


_BEFORE_CUTOVER = frozenset(
    {
        Phase.PREFLIGHT,
        Phase.DUAL_WRITE,
        Phase.BACKFILL,
        Phase.BLENDED,
        Phase.ROLLED_BACK,
        Phase.HALTED,
        Phase.DEFERRED,
    }
)
