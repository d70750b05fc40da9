"""The door to evaluation: what is passed through, added and refused on the way."""

from __future__ import annotations

from typing import Any

import pytest

from embedcore.evaluation.lift import LiftFit
from embedcore.migration.gates import offline_gates, parity_gate, result
from embedcore.migration.judge import HarnessJudge, with_shadow
from embedcore.migration_types import ConsumerProgress, Plan
from embedcore.types import Consumer

SEARCH = Consumer(name="search", k=3, quality_target=0.5, engagement_min_count=100)
DEDUP = SEARCH.model_copy(
    update={"name": "dedup", "engagement": "agreement", "engagement_margin": 0.1, "engagement_min_count": 50}
)
JUDGE = HarnessJudge(None)  # type: ignore[arg-type]  # engagement asks no golden set


def NO_FIT(gain: float) -> None:  # noqa: N802  stands for a value
    """Too few past canaries."""


def arms(clicks: float, *, simulated: bool = False) -> dict[str, dict[str, float]]:
    mark = {"simulated": 1.0} if simulated else {}
    return {
        "control": {"impressions": 20_000.0, "clicks": 10_000.0, **mark},
        "canary": {"impressions": 20_000.0, "clicks": clicks, **mark},
    }


def test_the_interval_has_two_sides_around_the_estimate() -> None:
    gate = JUDGE.engagement(SEARCH, ConsumerProgress(), arms(11_000), Plan(), 0.0)
    evidence: dict[str, Any] = gate.evidence
    assert gate.passed
    assert evidence["difference"] == pytest.approx(0.05)
    assert evidence["lower"] < 0.05 < evidence["upper"]
    assert evidence["lower"] + evidence["upper"] == pytest.approx(0.1)


def test_simulated_clicks_count_only_where_the_plan_says_so() -> None:
    totals = arms(11_000, simulated=True)
    refused = JUDGE.engagement(SEARCH, ConsumerProgress(), totals, Plan(), 0.0)
    assert not refused.passed
    assert "simulated" in refused.summary
    assert JUDGE.engagement(SEARCH, ConsumerProgress(), totals, Plan(simulated_engagement=True), 0.0).passed


def test_below_the_minimum_count_there_is_no_evidence() -> None:
    totals = {arm: {"impressions": 99.0, "clicks": 50.0} for arm in ("control", "canary")}
    gate = JUDGE.engagement(SEARCH, ConsumerProgress(), totals, Plan(), 0.0)
    assert not gate.passed
    assert "upper" not in gate.evidence
    assert not JUDGE.engagement(SEARCH, ConsumerProgress(), {}, Plan(), 0.0).passed


def test_agreement_is_judged_by_the_shadow_run() -> None:
    progress = ConsumerProgress(shadow_compared=4_000, shadow_agreed=3_900)
    assert with_shadow(DEDUP, progress, {})["shadow"] == {"agreed": 3_900.0, "compared": 4_000.0}
    assert "shadow" not in with_shadow(SEARCH, progress, {})
    assert JUDGE.engagement(DEDUP, progress, {}, Plan(), 0.0).passed
    less = progress.model_copy(update={"shadow_agreed": 3_000})
    assert not JUDGE.engagement(DEDUP, less, {}, Plan(), 0.0).passed
    assert not JUDGE.engagement(DEDUP, ConsumerProgress(), {}, Plan(), 0.0).passed


def test_what_was_never_evaluated_is_not_met() -> None:
    gates = offline_gates("search", ConsumerProgress(), 0.0)
    assert {gate.gate: gate.passed for gate in gates} == {"long_tail": False, "quality": False}


@pytest.mark.parametrize(
    ("clicks", "weight", "passed", "halt"),
    [
        (11_000, 0.0, True, None),
        (10_000, 0.0, False, True),
        (9_000, 0.0, False, True),
        (10_250, 0.0, False, None),
        (10_000, 0.9, True, None),  # the control has nearly all of it already
    ],
)
def test_parity_from_real_totals(clicks: float, weight: float, passed: bool, halt: bool | None) -> None:
    quality = result("quality", True, "", 0.0, difference=0.08, source=0.8)
    progress = ConsumerProgress(weight=weight, gates={"quality": quality})
    canary = JUDGE.engagement(SEARCH, progress, arms(clicks), Plan(), 0.0)
    gate = parity_gate(SEARCH, progress, canary, 0.0, NO_FIT)
    assert (gate.passed, gate.evidence.get("halt")) == (passed, halt), gate.summary


def test_a_lift_once_shown_stays_shown() -> None:
    quality = result("quality", True, "", 0.0, difference=0.08, source=0.8)
    progress = ConsumerProgress(gates={"quality": quality})
    canary = JUDGE.engagement(SEARCH, progress, arms(11_000), Plan(), 0.0)
    shown = parity_gate(SEARCH, progress, canary, 0.0, NO_FIT)
    later = progress.model_copy(update={"gates": {"quality": quality, "parity": shown}})
    flat = JUDGE.engagement(SEARCH, later, arms(10_000), Plan(), 1.0)
    assert parity_gate(SEARCH, later, flat, 1.0, NO_FIT).passed


@pytest.mark.parametrize(
    ("clicks", "slope", "half", "passed", "halt"),
    [
        # At the proportional rule 0.08 of recall at 0.8 is a lift of 10%, and 1.5% are none: an audit.
        (10_150, None, 0.0, False, True),
        # Past canaries gave 0.3 per 1.0 of recall, hence 2.4%: what is seen is as it always was.
        (10_150, 0.3, 0.01, False, None),
        (11_000, 0.3, 0.01, True, None),
        (9_700, 0.3, 0.01, False, True),
        # They gave 1.25 and hardly differ: 7% are expected at least, which 1.5% are not.
        (10_150, 1.25, 0.03, False, True),
        # They differ so much that no lift is nothing unusual, unlike a fall beyond all of them.
        (10_000, 0.3, 0.05, True, None),
        (9_000, 0.3, 0.05, False, True),
    ],
)
def test_parity_by_the_slope_of_past_canaries(
    clicks: float, slope: float | None, half: float, passed: bool, halt: bool | None
) -> None:
    quality = result("quality", True, "", 0.0, difference=0.08, source=0.8)
    progress = ConsumerProgress(gates={"quality": quality})
    canary = JUDGE.engagement(SEARCH, progress, arms(clicks), Plan(), 0.0)
    asked: list[float] = []

    def fitted(gain: float) -> LiftFit | None:
        asked.append(gain)
        return None if slope is None else LiftFit(slope, slope * gain - half, slope * gain + half, 4)

    gate = parity_gate(SEARCH, progress, canary, 0.0, fitted)
    assert (gate.passed, gate.evidence.get("halt")) == (passed, halt), gate.summary
    assert asked == [0.08]
    assert gate.evidence["method"] == ("proportional" if slope is None else "fitted")
    assert ("by 4 past canaries" in gate.summary) == (slope is not None)


def test_past_canaries_are_not_asked_where_nothing_has_to_show() -> None:
    quality = result("quality", True, "", 0.0, difference=0.02, source=0.8)
    progress = ConsumerProgress(gates={"quality": quality})
    canary = JUDGE.engagement(SEARCH, progress, arms(10_000), Plan(), 0.0)

    def never(gain: float) -> LiftFit | None:
        raise AssertionError(f"asked for {gain}")

    assert parity_gate(SEARCH, progress, canary, 0.0, never).passed
