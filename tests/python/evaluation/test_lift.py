"""Offline to online: recorded before, never rewritten, scored after, with an interval that covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from embedcore.evaluation.lift import LiftBook, LiftPrediction, fit
from embedcore.migration_types import GateResult
from embedcore.types import Consumer

SEARCH = Consumer(name="search", k=10, quality_target=0.5)


def quality(difference: float, source: float = 0.8) -> GateResult:
    evidence = {"difference": difference, "source": source}
    return GateResult(gate="quality", passed=True, summary="", evidence=evidence, at=0.0)


def canary(lift: float, control: float = 0.3, width: float = 0.004) -> GateResult:
    move = lift * control
    evidence = {
        "control": control,
        "canary": control + move,
        "lower": move - width,
        "upper": move + width,
    }
    return GateResult(gate="engagement", passed=True, summary="", evidence=evidence, at=0.0)


def past(x: float, y: float) -> LiftPrediction:
    return LiftPrediction(
        migration="m",
        consumer="search",
        recall_gain=x,
        weight=0.0,
        visible_gain=x,
        method="proportional",
        fitted_on=0,
        slope=1.0,
        predicted=x,
        lower=None,
        upper=None,
        recorded_at=0.0,
        observed=y,
    )


def test_a_prediction_is_recorded_once_and_scored_once(store: Any) -> None:
    book = LiftBook(store)
    made = book.predict("m1", SEARCH, quality(0.04), 0.5, at=10.0)
    assert made is not None
    assert (made.method, made.lower, made.observed) == ("proportional", None, None)
    assert made.visible_gain == pytest.approx(0.02)
    assert made.predicted == pytest.approx(0.02 / 0.8)
    assert book.predict("m1", SEARCH, quality(0.40), 0.0, at=20.0) == made, "made before the data, it stands"
    scored = book.score("m1", "search", canary(0.03), at=30.0)
    assert scored is not None
    assert scored.observed == pytest.approx(0.03)
    assert scored.observed_lower == pytest.approx(0.03 - 0.004 / 0.3)
    assert scored.inside is None
    assert book.score("m1", "search", canary(0.5), at=40.0) == scored
    assert book.get("m1", "search") == scored
    assert book.score("m2", "search", canary(0.5), at=40.0) is None


def test_three_scored_canaries_make_an_interval(store: Any) -> None:
    book = LiftBook(store)
    for number, (gain, lift) in enumerate(((0.02, 0.011), (0.04, 0.018), (0.05, 0.026))):
        book.predict(f"m{number}", SEARCH, quality(gain), 0.0, at=float(number))
        book.score(f"m{number}", "search", canary(lift), at=10.0 + number)
    made = book.predict("m9", SEARCH, quality(0.03), 0.0, at=20.0)
    assert made is not None
    assert (made.method, made.fitted_on) == ("fitted", 3)
    assert made.lower is not None
    assert made.upper is not None
    assert made.lower < made.predicted < made.upper
    assert book.score("m9", "search", canary(made.predicted), at=30.0).inside is True  # type: ignore[union-attr]
    book.predict("m10", SEARCH, quality(0.03), 0.0, at=21.0)
    assert book.score("m10", "search", canary(0.9), at=31.0).inside is False  # type: ignore[union-attr]
    assert [one.migration for one in book.history("search")] == ["m0", "m1", "m2", "m9", "m10"]


def test_the_fit_against_scipy_and_its_coverage() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(400):
        x = rng.uniform(0.005, 0.06, 6)
        y = 0.5 * x + rng.normal(0, 0.004, 6)
        slope, low, high, used = fit([past(a, b) for a, b in zip(x, y, strict=True)], 0.03)
        assert used == 6
        assert low is not None
        assert high is not None
        covered += low <= 0.5 * 0.03 + rng.normal(0, 0.004) <= high
    assert slope == pytest.approx(float(np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]))
    assert stats.binomtest(covered, 400, 0.95).pvalue > 0.001


def test_nothing_is_predicted_without_a_basis(store: Any) -> None:
    book = LiftBook(store)
    dedup = Consumer(name="dedup", k=1, quality_target=0.9, engagement="agreement")
    assert book.predict("m", dedup, quality(0.04), 0.0, at=0.0) is None
    none = GateResult(gate="quality", passed=False, summary="", evidence={}, at=0.0)
    assert book.predict("m", SEARCH, none, 0.0, at=0.0) is None
    assert book.history("search") == []


def test_a_canary_is_no_evidence_about_itself(store: Any) -> None:
    book = LiftBook(store)
    for number, lift in enumerate((0.02, 0.02, 0.02, 0.9)):
        book.predict(f"m{number}", SEARCH, quality(0.04), 0.0, at=float(number))
        book.score(f"m{number}", "search", canary(lift), at=10.0 + number)
    assert book.fitted("m3", "search", 0.04).slope == pytest.approx(0.5)
    assert book.fitted("m3", "search", 0.04).canaries == 3
    assert book.fitted("m9", "search", 0.04).slope > 5
    assert book.fitted("m0", "ads", 0.04).canaries == 0
