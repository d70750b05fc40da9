"""The plan as pure functions of document and time: which step is due, what is overdue, what is left."""

from __future__ import annotations

import math

from embedcore.errors import InvalidArgument
from embedcore.migration_types import DAY, ConsumerProgress, Migration, Phase, Plan, PlanStep

# Phases in which the target receives writes and may still win: the backfill goes on.
FILLING = frozenset({Phase.BACKFILL, Phase.BLENDED, Phase.GRACE, Phase.ROLLED_BACK})
# Phases in which the 7-day window counts.
WINDOWED = frozenset(
    {Phase.DUAL_WRITE, Phase.BACKFILL, Phase.BLENDED, Phase.ROLLED_BACK, Phase.HALTED, Phase.DEFERRED}
)


def check_plan(plan: Plan) -> None:
    """InvalidArgument for a plan that cannot be followed."""
    if any(b.day <= a.day or b.weight <= a.weight for a, b in zip(plan.steps, plan.steps[1:], strict=False)):
        raise InvalidArgument(
            "plan steps must rise in day and in weight, got "
            + ", ".join(f"{s.weight:g} on day {s.day:g}" for s in plan.steps)
        )
    if any(step.weight >= 1 for step in plan.steps):
        raise InvalidArgument("a plan step must be below weight 1: the last step to 1 is taken by the gates")
    positive = {
        "window_seconds": plan.window_seconds,
        "evaluate_every_seconds": plan.evaluate_every_seconds,
        "backfill_chunk": plan.backfill_chunk,
        "preflight_items": plan.preflight_items,
        "canary_items": plan.canary_items,
        "evaluation_queries": plan.evaluation_queries,
    }
    not_negative = {
        "margin": plan.margin,
        "long_tail_margin": plan.long_tail_margin,
        "shadow_seconds": plan.shadow_seconds,
        "grace_seconds": plan.grace_seconds,
        "backfill_rate": plan.backfill_rate,
    }
    for name, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise InvalidArgument(f"plan: {name} must be above 0, got {value}")
    for name, value in not_negative.items():
        if not (math.isfinite(value) and value >= 0):
            raise InvalidArgument(f"plan: {name} must be 0 or more, got {value}")
    for name, share in (("blend_coverage", plan.blend_coverage), ("cutover_coverage", plan.cutover_coverage)):
        if not 0 <= share < 1:
            raise InvalidArgument(f"plan: {name} must be in [0, 1), got {share}")


def due_step(plan: Plan, dual_write_at: float, now: float, weight: float) -> PlanStep | None:
    """The next step above ``weight``, when its day has come. Days count from the first dual write; steps
    are taken one after the other, however many days have passed."""
    for step in plan.steps:
        if step.weight > weight:
            return step if now - dual_write_at >= step.day * DAY else None
    return None


def final_weight(plan: Plan) -> float:
    """The weight of the last step; from there the gates lead to 1."""
    return plan.steps[-1].weight if plan.steps else 0.0


def ticks_due(last: float | None, now: float, every: float) -> int:
    """How many evaluations were due since ``last``: 0 none, above 1 when time ran faster than they did."""
    return 1 if last is None else max(0, int((now - last) // every))


def window_left(migration: Migration, now: float) -> float | None:
    """Seconds of the window left, negative when over; None where it does not count."""
    if migration.window_until is None or migration.phase not in WINDOWED:
        return None
    return migration.window_until - now


def window_over(migration: Migration, now: float) -> bool:
    left = window_left(migration, now)
    return left is not None and left <= 0


def with_consumer(migration: Migration, name: str, **changes: object) -> Migration:
    """The document with one consumer's progress changed."""
    progress = migration.consumers.get(name, ConsumerProgress())
    consumers = dict(migration.consumers)
    consumers[name] = progress.model_copy(update=changes)
    return migration.model_copy(update={"consumers": consumers})


def all_to_source(migration: Migration, phase: Phase, held: str) -> Migration:
    """Every consumer back on the source, out of the plan until set by hand."""
    consumers = {
        name: progress.model_copy(
            update={
                "weight": 0.0,
                "reverted": True,
                "held": held,
                "canary_since": None,
                "shadow_since": None,
                "shadow_compared": 0,
                "shadow_overlap": 0.0,
                "shadow_agreed": 0,
            }
        )
        for name, progress in migration.consumers.items()
    }
    return migration.model_copy(update={"phase": phase, "consumers": consumers})


def ending(migration: Migration, retired: frozenset[int]) -> bool:
    """An abort or a decommission has begun: one of the two generations is retired already, and what is
    left to do is reclaiming it."""
    return not migration.finished and (migration.source in retired or migration.target in retired)
