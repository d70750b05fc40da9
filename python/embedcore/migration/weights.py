"""A weight set by hand: going down is always allowed, going up passes the gates of that weight."""

from __future__ import annotations

import math

from embedcore.errors import FailedPrecondition, InvalidArgument, NotFound
from embedcore.migration.blending import judge_blended
from embedcore.migration.context import Context, enforce, need_phase
from embedcore.migration.gates import (
    blend_coverage_gate,
    calibration_gate,
    evidence_of,
    result,
    window_gate,
)
from embedcore.migration.journal import Change, Note
from embedcore.migration.plan import with_consumer
from embedcore.migration.verdict import (
    consumer_gates,
    evaluate_offline,
    needs_offline,
    target_coverage,
)
from embedcore.migration_types import GateResult, Migration, Phase
from embedcore.types import Consumer

_SETTABLE = frozenset(
    {Phase.DUAL_WRITE, Phase.BACKFILL, Phase.BLENDED, Phase.ROLLED_BACK, Phase.HALTED, Phase.DEFERRED}
)


def set_weight(
    context: Context, migration: Migration, name: str, weight: float, *, who: str, why: str, override: str
) -> Migration:
    """In a unified migration the weight is set for all consumers, whichever is named. Setting the weight
    that a consumer has puts it back under the plan.

    Raising resumes a migration that was rolled back, halted or deferred: phase BLENDED again.
    """
    if not (isinstance(weight, (int, float)) and math.isfinite(weight) and 0 <= weight <= 1):
        raise InvalidArgument(f"weight must be a number in [0, 1], got {weight}")
    if name not in migration.consumers:
        raise NotFound(
            f"consumer {name!r} has no part in migration {migration.id}; it has: "
            f"{', '.join(sorted(migration.consumers))}"
        )
    hint = "cut over: use `embedcore migrate rollback`" if migration.phase is Phase.GRACE else "it has ended"
    need_phase(migration, _SETTABLE, f"weight of {name!r}", hint)
    if migration.target in context.retired():
        raise FailedPrecondition(f"weight of {name!r}: migration {migration.id} is being aborted")
    names = sorted(migration.consumers) if migration.plan.unified else [name]
    notes: list[Note] = []
    gates: list[GateResult] = []
    raised = any(weight > migration.consumers[each].weight for each in names)
    if raised:
        gates = _gates(context, migration, names, weight)
        notes = enforce(
            context, migration, f"weight {weight:g} for {name!r}", gates, who=who, override=override
        )

    def change(current: Migration) -> Change | None:
        if current.phase not in _SETTABLE:
            return None
        document = current
        for each in names:
            document = _set(document, each, float(weight), who)
        if raised and document.phase is not Phase.BLENDED:
            blended_at = document.blended_at or context.now()
            document = document.model_copy(update={"phase": Phase.BLENDED, "blended_at": blended_at})
        evidence = {
            "consumers": names,
            "from": {each: current.consumers[each].weight for each in names},
            "weight": weight,
            "gates": evidence_of(gates),
        }
        listed = list(notes)
        if document.phase is not current.phase:
            listed.append(Note("phase", f"from {current.phase} on by hand", who, {"phase": "blended"}))
        listed.append(Note("weight", why or f"{', '.join(names)} to {weight:g} by hand", who, evidence))
        return Change(document, listed)

    changed = context.journal.update(migration.id, change)
    if changed.phase not in _SETTABLE:
        raise FailedPrecondition(
            f"weight of {name!r}: migration {migration.id} went to {changed.phase} meanwhile"
        )
    return changed


def _set(document: Migration, name: str, weight: float, who: str) -> Migration:
    """What was lowered by hand stays lowered; the plan comes back when a hand raises the weight again, or
    sets the one that it has."""
    before = document.consumers[name].weight
    if weight == before:
        return with_consumer(document, name, reverted=False, held="")
    if weight > before:
        return with_consumer(document, name, weight=weight, reverted=False, held="", evaluated_at=None)
    changes: dict[str, object] = {"canary_since": None} if weight == 0.0 else {}
    held = f"lowered to {weight:g} by {who}"
    return with_consumer(
        document, name, weight=weight, reverted=True, held=held, evaluated_at=None, **changes
    )


def _gates(context: Context, migration: Migration, names: list[str], weight: float) -> list[GateResult]:
    now = context.now()
    gates: list[GateResult] = []
    if migration.phase is Phase.HALTED:
        summary = "parity: halted for an audit of the golden set; overriding this gate says it was done"
        gates.append(result("parity", False, summary, now, halt=True))
    if weight < 1:
        coverage = context.measures.coverage(migration, fresh=True)
        gates += [
            window_gate(migration, now),
            blend_coverage_gate(coverage, migration.plan.blend_coverage, now),
            calibration_gate(migration, now),
        ]
        comparable = bool(migration.calibration)
        for each in names:
            if weight > migration.consumers[each].weight:
                gates.append(_blended(context, migration, context.consumer(each), weight, comparable))
        return gates
    complete = target_coverage(context, migration, fresh=True)
    for each in names:
        consumer = context.consumer(each)
        if complete.passed and needs_offline(context, migration, each):
            evaluate_offline(context, migration, consumer)
            migration = context.journal.get(migration.id)
        gates += [g for g in consumer_gates(context, migration, consumer, complete) if g not in gates]
    return gates


def _blended(
    context: Context, migration: Migration, consumer: Consumer, weight: float, comparable: bool
) -> GateResult:
    if not comparable:
        return result(
            "blended",
            False,
            f"{consumer.name}: not evaluated at {weight:g}: no calibration yet",
            context.now(),
        )
    return judge_blended(context, migration, consumer, weight)
