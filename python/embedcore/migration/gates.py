"""The gates of a migration that evaluation does not judge, and the intersection of all of them.

A gate is asked of the document and of what was measured, so that the same answer stands in a status, in a
refusal and in the record. No evidence is a gate not met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from embedcore.errors import GateNotMet
from embedcore.evaluation.lift import LiftFit
from embedcore.migration.plan import window_left, window_over
from embedcore.migration_types import DAY, ConsumerProgress, GateResult, Migration
from embedcore.store.interface import Coverage
from embedcore.types import Consumer, StoredItem

# The shadow run is evidence when this many live queries were compared in total, and this many of the
# consumer itself.
SHADOW_TOTAL = 100
SHADOW_EACH = 5
# Offline recall that predicts at least this much more must show in the canary.
PARITY_PREDICTED = 0.03
# A canary whose interval excludes this share of the expected lift shows none.
PARITY_LEAST = 0.5
# Gates that this package fills in; every other gate of a consumer comes from its offline evaluation.
OWN_GATES = frozenset(
    {"blended", "engagement", "shadow", "coverage", "window", "parity", "weights", "calibration"}
)
# What an offline evaluation has to have judged at least.
OFFLINE_REQUIRED = ("quality", "long_tail")


def result(gate: str, passed: bool, summary: str, at: float, **evidence: Any) -> GateResult:
    return GateResult(gate=gate, passed=passed, summary=summary, evidence=evidence, at=at)


def window_gate(migration: Migration, now: float) -> GateResult:
    left = window_left(migration, now)
    over = window_over(migration, now)
    summary = "window: does not count in this phase"
    if left is not None:
        days = abs(left) / DAY
        summary = (
            f"window: over since {days:.2f} days; extend it on record, or abort"
            if over
            else f"window: {days:.2f} days left"
        )
    return result("window", not over, summary, now, left_seconds=left, until=migration.window_until)


def shadow_gate(migration: Migration, consumer: str, now: float) -> GateResult:
    """Lasted ``shadow_seconds`` with enough compared queries, in total and of this consumer."""
    progress = migration.consumers.get(consumer, ConsumerProgress())
    total = sum(p.shadow_compared for p in migration.consumers.values())
    needed = migration.plan.shadow_seconds
    lasted = 0.0 if progress.shadow_since is None else now - progress.shadow_since
    enough = total >= SHADOW_TOTAL and progress.shadow_compared >= SHADOW_EACH
    passed = progress.shadow_since is not None and lasted >= needed and enough
    if progress.shadow_since is None:
        summary = f"{consumer}: shadow run has not started"
    elif lasted < needed:
        summary = f"{consumer}: shadow run lasted {lasted / 3600:.1f} of {needed / 3600:.1f} hours"
    else:
        summary = (
            f"{consumer}: shadow run compared {progress.shadow_compared} queries, {total} over all consumers"
            + ("" if enough else f"; at least {SHADOW_EACH} and {SHADOW_TOTAL} are needed")
        )
    return result(
        "shadow",
        passed,
        summary,
        now,
        lasted_seconds=lasted,
        needed_seconds=needed,
        compared=progress.shadow_compared,
        compared_total=total,
        overlap=progress.shadow_overlap,
        agreed=progress.shadow_agreed,
    )


def offline_gates(consumer: str, progress: ConsumerProgress, now: float) -> list[GateResult]:
    """What the last evaluation of the whole golden set said; a gate never asked is not met."""
    found = {name: gate for name, gate in progress.gates.items() if name not in OWN_GATES}
    for name in OFFLINE_REQUIRED:
        if name not in found:
            found[name] = result(
                name, False, f"{consumer}: {name} not evaluated on the complete target yet", now
            )
    return [found[name] for name in sorted(found)]


def parity_gate(
    consumer: Consumer,
    progress: ConsumerProgress,
    canary: GateResult,
    now: float,
    fitted: Callable[[float], LiftFit | None],
) -> GateResult:
    """Offline recall that predicts a lift must be seen by the canary.

    The control arm is answered at the consumer's weight, so what can show of the prediction is its share
    1 - w. How far engagement should rise with it, relative to the control's: ``fitted`` tells it with an
    interval by the consumer's past canaries, where they are enough; else it is by as much. Three answers,
    because an interval that reaches both sides decides nothing: a lift (lower bound above 0) passes, and
    stays passed, since the interval holds at every look; *no* lift (the interval ends below what is the least
    expected: the fitted interval's lower bound, or half of a proportional lift) speaks against the golden
    set and halts (``evidence["halt"]``); anything else waits for more data. Where past canaries leave room
    for no lift at all, none has to show.
    """
    name = consumer.name
    shown = progress.gates.get("parity")
    if shown is not None and shown.passed:
        return shown
    quality = progress.gates.get("quality")
    predicted = None if quality is None else quality.evidence.get("difference")
    visible = 0.0 if predicted is None else predicted * (1 - progress.weight)
    if quality is None or consumer.engagement == "agreement" or visible < PARITY_PREDICTED:
        return result("parity", True, f"{name}: no predicted lift that would have to show", now)
    lower, upper = canary.evidence.get("lower"), canary.evidence.get("upper")
    told = f"{name}: offline predicts {visible * 100:+.1f} pp against this control"
    if lower is None or upper is None:
        return result("parity", False, f"{told}; the canary has too little evidence to show it", now)
    control = canary.evidence.get("control", 1.0)
    by = fitted(visible)
    if by is None or by.lower is None:
        expected = visible / (quality.evidence.get("source") or 1.0) * control
        least = PARITY_LEAST * expected
    else:
        expected, least = by.slope * visible * control, by.lower * control
        told += f", by {by.canaries} past canaries {expected:+.4f}, at least {least:+.4f}"
    numbers = {
        "method": "proportional" if by is None else "fitted",
        "fitted_on": 0 if by is None else by.canaries,
        "least": least,
        "predicted": predicted,
        "visible": visible,
        "expected": expected,
        "lower": lower,
        "upper": upper,
    }
    interval = f"[{lower:+.4f}, {upper:+.4f}]"
    if lower > 0:
        return result(
            "parity", True, f"{told}, the canary shows a lift {interval}", now, shown=True, **numbers
        )
    if upper < least:
        summary = f"{told}, the canary shows no lift {interval}: the golden set needs an audit"
        return result("parity", False, summary, now, halt=True, **numbers)
    if least <= 0:
        return result("parity", True, f"{told}: no lift has to show {interval}", now, **numbers)
    return result("parity", False, f"{told}; the canary's {interval} does not decide yet", now, **numbers)


def weights_gate(migration: Migration, names: Iterable[str], now: float) -> GateResult:
    """Every consumer of the registry is wholly on the target."""
    below = {
        name: migration.consumers.get(name, ConsumerProgress()).weight
        for name in names
        if migration.consumers.get(name, ConsumerProgress()).weight < 1
    }
    listed = ", ".join(f"{name} at {weight:g}" for name, weight in sorted(below.items()))
    summary = f"weights: not at 1 yet: {listed}" if below else "weights: every consumer is at 1"
    return result("weights", not below, summary, now, below=below)


def calibration_gate(migration: Migration, now: float) -> GateResult:
    passed = bool(migration.calibration)
    summary = (
        "calibration: fitted" if passed else "calibration: scores of the two models are not comparable yet"
    )
    return result("calibration", passed, summary, now)


def blend_coverage_gate(coverage: Coverage, needed: float, now: float) -> GateResult:
    passed = coverage.live > 0 and coverage.share >= needed
    summary = f"coverage: {coverage.share:.1%}, blending needs {needed:.0%}"
    return result(
        "coverage", passed, summary, now, covered=coverage.covered, live=coverage.live, needed=needed
    )


def grace_gate(migration: Migration, lasted: float, now: float) -> GateResult:
    """``lasted``: see :class:`embedcore.migration.grace.GraceWitness`."""
    needed = migration.plan.grace_seconds
    passed = migration.cutover_at is not None and lasted >= needed
    summary = f"grace: {lasted / 3600:.1f} of {needed / 3600:.1f} hours since cutover, with a server running"
    return result("grace", passed, summary, now, lasted_seconds=lasted, needed_seconds=needed)


def irreplaceable_gate(missing: Sequence[StoredItem], source: int, now: float) -> GateResult:
    """Items that only the source holds and that no encoder can make again: dropping it would lose them."""
    lost = [item for item in missing if item.content is None and source in item.held]
    summary = "irreplaceable: the source holds nothing that could not be made again"
    if lost:
        summary = (
            f"irreplaceable: {len(lost)} items without content have their only vector in the source, e.g. "
            f"{lost[0].id!r}; send their vectors for the target, or delete them"
        )
    return result("irreplaceable", not lost, summary, now, items=[item.id for item in lost[:20]])


def evidence_of(gates: Iterable[GateResult]) -> list[dict[str, Any]]:
    return [gate.model_dump(mode="json") for gate in gates]


def named(gates: Sequence[GateResult], override: str) -> set[str]:
    """The gates that an override skips: ``gate,gate: reason`` names them, a bare reason means all."""
    head, colon, _ = override.partition(":")
    names = {part.strip() for part in head.split(",")}
    known = {gate.gate for gate in gates}
    return names if colon and names <= known else known


def refusal(action: str, failed: Sequence[GateResult]) -> GateNotMet:
    """One line that says what is missing; the evidence of every gate that failed in the details."""
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return GateNotMet(f"{action} refused: {failed[0].summary}{more}", {"evidence": evidence_of(failed)})
