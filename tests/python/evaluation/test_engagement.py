"""Engagement: judged only with enough evidence, valid however often it is looked at."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from embedcore.evaluation.engagement import engagement_gate
from embedcore.evaluation.sequential import boundary, lower_bound, mixture_rho
from embedcore.types import DEFAULT_CONSUMERS, Consumer

AT = 1_700_000_000.0
BY_NAME = {consumer.name: consumer for consumer in DEFAULT_CONSUMERS}


def clicks(impressions: float, rate: float) -> dict[str, float]:
    return {"impressions": impressions, "clicks": round(impressions * rate)}


def depths(count: int, mean: float, deviation: float) -> dict[str, float]:
    squares = count * (deviation**2 + mean**2)
    return {"impressions": count, "clicks": 0.0, "depth": count * mean, "depth_squared": squares}


def judge(name: str, **arms: dict[str, float]) -> Any:
    gate = engagement_gate(BY_NAME[name], arms, at=AT)
    json.dumps(gate.model_dump(), allow_nan=False)
    assert "\n" not in gate.summary
    return gate


def test_click_through_needs_evidence_and_excludes_a_fall_of_half_a_point() -> None:
    below = judge("ads", control=clicks(1e6, 0.05), canary=clicks(9_999, 0.05))
    assert not below.passed
    assert "no evidence" in below.summary
    few = judge("ads", control=clicks(200_000, 0.05), canary=clicks(10_000, 0.05))
    assert not few.passed, "the minimum count does not exclude a fall of 0.5 pp yet"
    needed = few.evidence["canary_events_needed"]
    enough = judge("ads", control=clicks(19 * needed * 1.05, 0.05), canary=clicks(needed * 1.05, 0.05))
    assert enough.passed, "what the evidence asks for is enough when the rates stay"
    assert enough.evidence["lower"] > -0.005
    fallen = judge("ads", control=clicks(5e6, 0.05), canary=clicks(250_000, 0.044))
    assert not fallen.passed
    assert not judge("ads").passed
    assert not judge("ads", control=clicks(1e6, 0.05)).passed


def test_simulated_totals_are_said_to_be_simulated() -> None:
    arms = {"control": clicks(1e6, 0.3), "canary": {**clicks(1e5, 0.3), "simulated": 1.0}}
    gate = judge("search", **arms)
    assert "(simulated)" in gate.summary
    assert gate.evidence["simulated"] is True
    assert "simulated" not in judge("search", control=clicks(1e6, 0.3), canary=clicks(1e5, 0.3)).summary


def test_session_depth_margin_is_a_share_of_the_controls_mean() -> None:
    control = depths(400_000, 4.0, 2.5)
    assert judge("recsys", control=control, canary=depths(20_000, 3.95, 2.5)).passed
    fallen = judge("recsys", control=control, canary=depths(20_000, 3.78, 2.5))
    assert not fallen.passed
    assert fallen.evidence["excluded_fall"] == pytest.approx(0.2)
    assert not judge("recsys", control=control, canary=depths(999, 4.5, 2.5)).passed


def test_agreement_is_over_all_that_was_compared() -> None:
    shadow = judge("dedup", shadow={"agreed": 1900.0, "compared": 2000.0})
    assert shadow.passed
    assert shadow.evidence["agreement"] == pytest.approx(0.95)
    assert not judge("dedup", shadow={"agreed": 1780.0, "compared": 2000.0}).passed
    assert not judge("dedup", shadow={"agreed": 99.0, "compared": 99.0}).passed
    full = judge("dedup", shadow={"agreed": 100.0, "compared": 100.0})
    assert 0.9 < full.evidence["lower"] < 1.0, "agreement in all cases still leaves doubt"


@pytest.mark.parametrize(
    "arms",
    [
        {"control": clicks(1e5, 0.1), "canary": {"impressions": 1e5, "clicks": 2e5}},
        {"control": clicks(1e5, 0.1), "canary": {"impressions": 1e5, "clicks": -1.0}},
        {"control": clicks(1e5, 0.1), "canary": {"impressions": 1e5, "clicks": math.nan}},
    ],
)
def test_totals_that_contradict_themselves_are_no_evidence(arms: dict[str, dict[str, float]]) -> None:
    gate = engagement_gate(BY_NAME["search"], arms, at=AT)
    assert not gate.passed
    assert "no evidence" in gate.summary


def test_contradicting_depths_and_agreements_are_no_evidence() -> None:
    impossible = {"impressions": 1e5, "depth": 4e5, "depth_squared": 1e5}
    gate = judge("recsys", control=depths(100_000, 4.0, 1.0), canary=impossible)
    assert "no evidence" in gate.summary
    assert "no evidence" in judge("dedup", shadow={"agreed": 300.0, "compared": 200.0}).summary


def test_the_boundary_against_its_formula() -> None:
    alpha, t = 0.05, 1234.0
    rho = mixture_rho(alpha, 1000.0)
    sigma = 1.7
    direct = 0.3 - sigma * math.sqrt(
        2 * (t * rho**2 + 1) / (t**2 * rho**2) * math.log(1 + math.sqrt(t * rho**2 + 1) / (2 * alpha))
    )
    assert lower_bound(0.3, sigma / math.sqrt(t), t, best_at=1000.0, alpha=alpha) == pytest.approx(
        direct, abs=1e-12
    )
    assert boundary(0, alpha, rho) == math.inf
    tuned = boundary(1000, alpha, rho)
    assert 1.645 < tuned < 3.0, "wider than a fixed-sample bound, not by much"
    for other in (50.0, 20_000.0):
        assert boundary(1000, alpha, mixture_rho(alpha, other)) > tuned


def test_type_one_error_when_looked_at_after_every_batch() -> None:
    """The true fall is exactly the margin: any pass at any look is an error, and 5% of runs may have one.

    A fixed-sample bound asked as often (a planted bug) passes far more of them.
    """
    consumer = Consumer(
        name="ads",
        k=5,
        quality_target=0.9,
        engagement="click_through",
        engagement_margin=0.02,
        engagement_min_count=500,
    )
    runs, looks, batch, share = 400, 150, 100, 0.2
    rng = np.random.default_rng(17)
    control = rng.binomial(int(batch / share * (1 - share)), 0.30, size=(runs, looks)).cumsum(axis=1)
    canary = rng.binomial(batch, 0.28, size=(runs, looks)).cumsum(axis=1)
    n1 = batch * np.arange(1, looks + 1)
    n0 = n1 * (1 - share) / share
    p1, p0 = canary / n1, control / n0
    error = np.sqrt(p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)
    rho = mixture_rho(0.05, consumer.engagement_min_count / share)
    width = np.array([boundary(float(t), 0.05, rho) for t in n0 + n1])
    judged = n1 >= consumer.engagement_min_count
    always_valid = ((p1 - p0 - width * error > -0.02) & judged).any(axis=1)
    fixed = ((p1 - p0 - 1.645 * error > -0.02) & judged).any(axis=1)
    assert always_valid.mean() <= 0.05
    assert fixed.mean() > 0.10
    # The gate itself gives the same answers on some of these looks.
    for run, look in zip(rng.integers(0, runs, 40), rng.integers(0, looks, 40), strict=True):
        arms = {
            "control": {"impressions": float(n0[look]), "clicks": float(control[run, look])},
            "canary": {"impressions": float(n1[look]), "clicks": float(canary[run, look])},
        }
        gate = engagement_gate(consumer, arms, at=AT, canary_share=share)
        if gate.evidence.get("slack_lower") is not None:
            expected = p1[run, look] - p0[run, look] - width[look] * error[run, look]
            assert gate.evidence["lower"] == pytest.approx(expected, abs=2e-4)
        else:
            assert not judged[look]


def test_an_equal_canary_passes_in_the_end() -> None:
    rng = np.random.default_rng(3)
    passed = 0
    for _ in range(20):
        control = rng.binomial(400_000, 0.3)
        canary = rng.binomial(100_000, 0.3)
        arms = {
            "control": {"impressions": 4e5, "clicks": float(control)},
            "canary": {"impressions": 1e5, "clicks": float(canary)},
        }
        passed += engagement_gate(BY_NAME["search"], arms, at=AT).passed
    assert passed == 20
