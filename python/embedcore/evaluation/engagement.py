"""Online evidence: does the canary's engagement fall? Totals per arm in, a gate's verdict out.

The totals are looked at after every batch, so the bound is an always-valid confidence sequence
(:mod:`embedcore.evaluation.sequential`), and the gate passes only when it excludes a fall of the margin:

* ``click_through``, ``click_success``: canary minus control clicks / impressions; the margin is absolute.
* ``session_depth``: canary minus control mean depth; the margin is a share of the control's mean depth.
* ``agreement``: share of shadow queries with the same decision (agreed / compared) >= 1 - margin.

Below ``engagement_min_count`` in either arm there is no evidence, and the gate is not met.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from embedcore.evaluation.sequential import ALPHA, boundary, lower_bound, mixture_rho
from embedcore.migration_types import GateResult
from embedcore.types import Consumer

Totals = Mapping[str, float]
SOURCE = "asymptotic confidence sequence, arXiv:2103.06476"


@dataclass(frozen=True)
class _Mean:
    """A sample mean with its sampling variance (of the mean)."""

    mean: float
    variance: float
    count: float


def engagement_gate(
    consumer: Consumer,
    arms: Mapping[str, Totals],
    *,
    at: float,
    canary_share: float = 0.05,
    alpha: float = ALPHA,
) -> GateResult:
    """Judges the consumer's engagement metric from the arms' totals (``Store.engagement``).

    ``arms``: "control" and "canary" with impressions, clicks, depth, depth_squared; for ``agreement`` any
    arms with agreed and compared, added up. ``canary_share`` sets where the sequence is tightest, and must
    be the plan's, not what was observed.
    """
    simulated = any(totals.get("simulated", 0.0) > 0 for totals in arms.values())
    evidence: dict[str, Any] = {
        "metric": consumer.engagement,
        "margin": consumer.engagement_margin,
        "min_count": consumer.engagement_min_count,
        "alpha": alpha,
        "method": SOURCE,
        "simulated": simulated,
        "arms": {arm: dict(totals) for arm, totals in sorted(arms.items())},
    }
    if consumer.engagement == "agreement":
        passed, text = _agreement(consumer, arms, evidence, alpha)
    else:
        passed, text = _arms(consumer, arms, evidence, canary_share, alpha)
    summary = f"{consumer.name}: {consumer.engagement}{' (simulated)' if simulated else ''}: {text}"
    return GateResult(gate="engagement", passed=passed, summary=summary, evidence=evidence, at=at)


def _arms(
    consumer: Consumer,
    arms: Mapping[str, Totals],
    evidence: dict[str, Any],
    canary_share: float,
    alpha: float,
) -> tuple[bool, str]:
    control_totals, canary_totals = arms.get("control", {}), arms.get("canary", {})
    smaller = min(control_totals.get("impressions", 0.0), canary_totals.get("impressions", 0.0))
    if smaller < consumer.engagement_min_count:
        return (
            False,
            f"no evidence: {smaller:.0f} events in an arm, {consumer.engagement_min_count} are needed",
        )
    depth = consumer.engagement == "session_depth"
    measure = _depth if depth else _proportion
    control, canary = measure(control_totals), measure(canary_totals)
    if control is None or canary is None:
        return False, "no evidence: the totals contradict themselves (see arms); report them again"
    # A fall of a share of the control's mean: canary - (1 - margin) control > 0, so the control's own
    # uncertainty is in the bound, which an absolute margin computed from its mean would leave out.
    scale = 1 - consumer.engagement_margin if depth else 1.0
    margin = 0.0 if depth else consumer.engagement_margin
    slack = canary.mean - scale * control.mean + margin
    error = math.sqrt(canary.variance + scale**2 * control.variance)
    count = control.count + canary.count
    best_at = consumer.engagement_min_count / min(max(canary_share, 1e-3), 0.5)
    lower = lower_bound(slack, error, count, best_at=best_at, alpha=alpha)
    fall = consumer.engagement_margin * (control.mean if depth else 1.0)
    needed = _growth_needed(slack, error, count, best_at, alpha)
    evidence |= {
        "control": control.mean,
        "canary": canary.mean,
        "difference": canary.mean - control.mean,
        "lower": lower - slack + canary.mean - control.mean,
        "upper": slack - lower + canary.mean - control.mean,  # the sequence is symmetric
        "excluded_fall": fall,
        "slack_lower": lower,  # passes above 0
        "canary_events_needed": None if needed is None else math.ceil(canary.count * needed),
    }
    passed = lower > 0
    text = (
        f"{control.mean:.4f} -> {canary.mean:.4f}; a fall of {fall:.4f} is "
        f"{'excluded' if passed else 'not excluded'} at any look (bound {evidence['lower']:+.4f}, "
        f"{canary.count:.0f} canary events)"
    )
    return passed, text


def _agreement(
    consumer: Consumer, arms: Mapping[str, Totals], evidence: dict[str, Any], alpha: float
) -> tuple[bool, str]:
    agreed = sum(totals.get("agreed", 0.0) for totals in arms.values())
    compared = sum(totals.get("compared", 0.0) for totals in arms.values())
    if compared < consumer.engagement_min_count:
        return False, f"no evidence: {compared:.0f} compared, {consumer.engagement_min_count} are needed"
    share = _proportion({"clicks": agreed, "impressions": compared})
    if share is None:
        return False, "no evidence: more agreed than compared; report the totals again"
    least = 1 - consumer.engagement_margin
    error, best_at = math.sqrt(share.variance), float(consumer.engagement_min_count)
    lower = lower_bound(share.mean, error, compared, best_at=best_at, alpha=alpha)
    needed = _growth_needed(share.mean - least, error, compared, best_at, alpha)
    evidence |= {
        "agreement": share.mean,
        "lower": lower,
        "least": least,
        "compared_needed": None if needed is None else math.ceil(compared * needed),
    }
    passed = lower >= least
    return passed, (
        f"{share.mean:.3f} of {compared:.0f} decisions agree, bound {lower:.3f} "
        f"{'>=' if passed else '<'} {least:.3f}"
    )


def _proportion(totals: Totals) -> _Mean | None:
    count, hits = totals.get("impressions", 0.0), totals.get("clicks", 0.0)
    if not (math.isfinite(count) and math.isfinite(hits)) or count <= 0 or not 0 <= hits <= count:
        return None
    # One success and one failure are added in the variance alone: with 0 or all clicks the plain
    # estimate is 0, and the bound would have no width.
    smoothed = (hits + 1) / (count + 2)
    return _Mean(hits / count, smoothed * (1 - smoothed) / count, count)


def _depth(totals: Totals) -> _Mean | None:
    count = totals.get("impressions", 0.0)
    total, squares = totals.get("depth", 0.0), totals.get("depth_squared", 0.0)
    if not all(math.isfinite(value) for value in (count, total, squares)) or count <= 0:
        return None
    mean = total / count
    variance = squares / count - mean * mean
    if mean < 0 or variance < -1e-9 * max(1.0, mean * mean):
        return None
    return _Mean(mean, max(variance, 0.0) / count, count)


def _growth_needed(slack: float, error: float, count: float, best_at: float, alpha: float) -> float | None:
    """By what factor the counts must grow for the bound to pass if the estimates stay; None if never."""
    rho = mixture_rho(alpha, best_at)
    factor = 1.0
    while factor <= 1e6:
        if error / math.sqrt(factor) * boundary(count * factor, alpha, rho) < slack:
            return factor
        factor *= 1.1
    return None
