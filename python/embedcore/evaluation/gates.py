"""Gates: verdicts with their evidence. No evidence is a gate not met.

Every gate returns a GateResult whose evidence is JSON-serialisable: the numbers, how many queries, the
policy, the margin and the seed. All gates of a consumer and of all consumers must pass (an intersection), so
each is tested at the full 95% level and none is corrected for the number of consumers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from embedcore.evaluation.points import pp
from embedcore.evaluation.result import Evaluation, paired
from embedcore.evaluation.significance import MIN_QUERIES, Comparison, compare_paired, finite
from embedcore.migration_types import GateResult, Plan
from embedcore.types import Consumer, StoredItem

if TYPE_CHECKING:
    from embedcore.store.interface import Coverage

MISSING_LISTED = 20


def quality_gate(
    consumer: Consumer,
    source: Evaluation,
    target: Evaluation,
    plan: Plan,
    *,
    at: float,
    seed: int = 0,
    comparison: Comparison | None = None,
    screening: bool = False,
) -> GateResult:
    """Is the target at least as good as the source on the consumer's own metric?

    ``strict``: observed difference >= 0 and the one-sided 95% lower bound > -margin; ``non-inferior``: the
    lower bound alone. Fewer than 30 queries, an undefined metric and a public golden set are not evidence.
    The comparison is computed here (paired, seeded) unless the caller has it already.

    ``screening`` is the pre-flight's form of ``strict``: the lower bound > -margin, and no loss is *shown*
    (one-sided 95% upper bound >= 0). On a sample both models are near their ceiling, where the sign of the
    observed difference is a coin toss; it is decided at cutover, on the whole set and the whole corpus.
    """
    if comparison is None:
        comparison = compare_paired(*paired(source, target), seed=seed)
    evidence = _comparison_evidence(source, target, comparison) | {
        "policy": plan.policy,
        "margin": plan.margin,
        "screening": screening,
    }
    name = f"{consumer.name}: {target.metric_name}"
    if source.public or target.public:
        return _result("quality", False, f"{name}: a public golden set is a signal, not a gate", evidence, at)
    lacking = _no_evidence(comparison)
    if lacking:
        return _result("quality", False, f"{name}: no evidence: {lacking}", evidence, at)
    bounded, not_worse = (
        bool(answer)
        for answer in quality_rule(
            plan,
            comparison.one_sided_upper if screening else comparison.difference,
            comparison.one_sided_lower,
        )
    )
    worse = "" if not_worse else ": a loss is shown" if screening else ": worse as observed"
    summary = (
        f"{name} {source.metric:.3f} -> {target.metric:.3f} ({pp(comparison.difference)}, 95% lower bound "
        f"{pp(comparison.one_sided_lower)} {'>' if bounded else 'not >'} {pp(-plan.margin)}, "
        f"n={comparison.n}, {plan.policy}{' screening' if screening else ''}{worse}{_accepts_all(target)})"
    )
    return _result("quality", bounded and not_worse, summary, evidence, at)


def quality_rule(plan: Plan, observed: Any, lower: Any) -> tuple[Any, Any]:
    """(the lower bound excludes a loss of the margin, not worse as observed or of no matter): both are
    needed. Numbers or arrays, so that a simulation asks what the gate asks."""
    return lower > -plan.margin, (observed >= 0) | (plan.policy == "non-inferior")


def sufficient_gate(consumer: Consumer, comparison: Comparison, plan: Plan, *, at: float) -> GateResult:
    """Can this golden set see a difference of the margin, at 95% confidence with 80% power?"""
    size = comparison.size_for(plan.margin)
    evidence = {
        "n": comparison.n,
        "mde": finite(comparison.mde),
        "margin": plan.margin,
        "queries_needed": size,
    }
    lacking = _no_evidence(comparison)
    if lacking:
        return _result("sufficient", False, f"{consumer.name}: not enough evidence: {lacking}", evidence, at)
    enough = comparison.mde <= plan.margin
    summary = f"{consumer.name}: {comparison.n} queries detect {pp(comparison.mde, sign=False)}" + (
        f", within the margin of {pp(plan.margin, sign=False)}"
        if enough
        else f": not enough evidence for {pp(plan.margin, sign=False)}; about {size} queries would do"
    )
    return _result("sufficient", enough, summary, evidence, at)


def target_gate(consumer: Consumer, evaluation: Evaluation, *, at: float) -> GateResult:
    """The consumer's absolute target, on labels: metric >= quality_target."""
    evidence = {
        "metric": finite(evaluation.metric),
        "lower": finite(evaluation.lower),
        "upper": finite(evaluation.upper),
        "target": consumer.quality_target,
        "n": evaluation.n,
        **_threshold_evidence("", evaluation),
    }
    name = f"{consumer.name}: {evaluation.metric_name}"
    if evaluation.n < MIN_QUERIES or not math.isfinite(evaluation.metric):
        return _result("target", False, f"{name}: no evidence: {evaluation.n} queries", evidence, at)
    passed = evaluation.metric >= consumer.quality_target
    summary = (
        f"{name} {evaluation.metric:.3f} {'>=' if passed else '<'} target {consumer.quality_target:.3f}"
        f" (n={evaluation.n})"
    )
    return _result("target", passed, summary, evidence, at)


def long_tail_gate(
    consumer: Consumer, source: Evaluation, target: Evaluation, plan: Plan, *, at: float
) -> GateResult:
    """The oldest, rarest items stay findable: the bucket falls by at most ``long_tail_margin``.

    A bucket of fewer than 30 queries is reported as not judged, which passes: not every consumer's labels
    reach the oldest items.
    """
    count = min(source.long_tail_n, target.long_tail_n)
    difference = target.long_tail - source.long_tail
    evidence = {
        "source": finite(source.long_tail),
        "target": finite(target.long_tail),
        "difference": finite(difference),
        "margin": plan.long_tail_margin,
        "n": count,
        "judged": count >= MIN_QUERIES,
    }
    name = f"{consumer.name}: long tail"
    if count < MIN_QUERIES:
        summary = f"{name} not judged: {count} queries, fewer than {MIN_QUERIES}"
        return _result("long_tail", True, summary, evidence, at)
    if not math.isfinite(difference):
        return _result("long_tail", False, f"{name}: no evidence: metric undefined", evidence, at)
    passed = difference >= -plan.long_tail_margin
    summary = (
        f"{name} {source.long_tail:.3f} -> {target.long_tail:.3f} ({pp(difference)}, "
        f"{'within' if passed else 'more than'} {pp(plan.long_tail_margin, sign=False)} below, n={count})"
    )
    return _result("long_tail", passed, summary, evidence, at)


def blended_gate(
    consumer: Consumer,
    source: Evaluation,
    blended: Evaluation,
    comparison: Comparison,
    plan: Plan,
    *,
    at: float,
) -> GateResult:
    """The periodic check while 0 < w < 1: not met when a loss beyond the margin is *shown*.

    It is asked hundreds of times in a migration on few queries, so like every alarm it fires only when the
    95% bound of the estimate is past the threshold; a check that failed on the observed value would revert
    consumers by chance.
    """
    evidence = _comparison_evidence(source, blended, comparison) | {
        "margin": plan.margin,
        "weight": blended.weight,
    }
    name = f"{consumer.name}: {blended.metric_name} at weight {blended.weight}"
    lacking = _no_evidence(comparison)
    if lacking:
        return _result("blended", False, f"{name}: no evidence: {lacking}", evidence, at)
    passed = comparison.one_sided_upper >= -plan.margin
    summary = (
        f"{name} {source.metric:.3f} -> {blended.metric:.3f} ({pp(comparison.difference)}, 95% upper bound "
        f"{pp(comparison.one_sided_upper)}; a loss beyond {pp(plan.margin, sign=False)} is "
        f"{'not shown' if passed else 'shown'}, n={comparison.n})"
    )
    return _result("blended", passed, summary, evidence, at)


def coverage_gate(coverage: Coverage, missing: Sequence[StoredItem], plan: Plan, *, at: float) -> GateResult:
    """Coverage must exceed ``cutover_coverage``; what is missing is listed by age, oldest first."""
    listed = sorted(missing, key=lambda item: (item.created_at, item.item))[:MISSING_LISTED]
    evidence: dict[str, Any] = {
        "covered": coverage.covered,
        "live": coverage.live,
        "coverage": coverage.share,
        "must_exceed": plan.cutover_coverage,
        "missing": [
            {"id": item.id, "age_days": round((at - item.created_at) / 86_400, 2)} for item in listed
        ],
        "missing_count": coverage.live - coverage.covered,
    }
    if coverage.live == 0:
        return _result("coverage", False, "coverage: no evidence: there are no live items", evidence, at)
    passed = coverage.share > plan.cutover_coverage
    summary = (
        f"coverage {coverage.share:.2%} {'>' if passed else 'not >'} {plan.cutover_coverage:.2%} "
        f"({coverage.live - coverage.covered} of {coverage.live} items missing)"
    )
    return _result("coverage", passed, summary, evidence, at)


def no_evidence(gate: str, reason: str, *, at: float) -> GateResult:
    """A gate that could not be asked is not met."""
    return _result(gate, False, f"no evidence: {reason}", {}, at)


def _no_evidence(comparison: Comparison) -> str:
    if comparison.n < MIN_QUERIES:
        return f"{comparison.n} queries, at least {MIN_QUERIES} are needed"
    if not (math.isfinite(comparison.difference) and math.isfinite(comparison.one_sided_lower)):
        return "the metric is undefined on one side (nothing was accepted)"
    return ""


def _comparison_evidence(source: Evaluation, target: Evaluation, comparison: Comparison) -> dict[str, Any]:
    return {
        "metric": target.metric_name,
        "source": finite(source.metric),
        "target": finite(target.metric),
        **comparison.to_document(),
        "golden": target.golden,
        "golden_digest": target.golden_digest,
        "left_out": target.left_out,
        "source_index_recall": source.index_recall,  # None: exact search was not asked
        "target_index_recall": target.index_recall,
        "test": "paired bootstrap over queries (BCa), sign-flip randomisation test",
        **_threshold_evidence("source_", source),
        **_threshold_evidence("target_", target),
    }


def _threshold_evidence(prefix: str, evaluation: Evaluation) -> dict[str, Any]:
    if evaluation.threshold is None:
        return {}
    return {
        f"{prefix}threshold": finite(evaluation.threshold),  # None: accepts all
        f"{prefix}threshold_reached": evaluation.threshold_reached,
        f"{prefix}found_share": finite(evaluation.found_share),
    }


def _accepts_all(evaluation: Evaluation) -> str:
    return "; accepts all, too few duplicates are found" if evaluation.threshold_reached is False else ""


def _result(gate: str, passed: bool, summary: str, evidence: dict[str, Any], at: float) -> GateResult:
    return GateResult(gate=gate, passed=bool(passed), summary=summary, evidence=evidence, at=at)
