"""The paired comparison against independent computations, and its coverage in a small simulation."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy import stats

from embedcore.evaluation.metrics import PerQuery
from embedcore.evaluation.significance import (
    compare_paired,
    interval,
    minimum_detectable_effect,
    standard_error,
)


def recall(values: Any) -> PerQuery:
    return PerQuery(np.asarray(values, np.float64), np.ones(len(values)))


def example(n: int, ratio: bool, seed: int = 0) -> tuple[PerQuery, PerQuery]:
    rng = np.random.default_rng(seed)
    before = (rng.random(n) < 0.7).astype(np.float64)
    after = np.where(rng.random(n) < 0.2, rng.random(n) < 0.8, before).astype(np.float64)
    if not ratio:
        return recall(before), recall(after)
    accepted = [(rng.random(n) < share).astype(np.float64) for share in (0.9, 0.8)]
    return PerQuery(before * accepted[0], accepted[0]), PerQuery(after * accepted[1], accepted[1])


def oracle_bound(values: list[float], share: float) -> float:
    """The largest draw that at most this share of the draws does not exceed."""
    fit = [v for v in values if sum(other <= v + 1e-12 for other in values) <= share * len(values) + 1e-9]
    return max(fit, default=min(values))


@pytest.mark.parametrize("ratio", [False, True])
def test_bootstrap_against_plain_python(monkeypatch: pytest.MonkeyPatch, ratio: bool) -> None:
    """The draws are recorded as scipy makes them; everything computed from them is done again."""
    draws: list[np.ndarray] = []
    scipys = stats.bootstrap

    def recording(data: Any, statistic: Any, **options: Any) -> Any:
        def spy(drawn: Any, axis: int = -1) -> Any:
            if drawn.ndim == 2:
                draws.append(np.array(drawn))
            return statistic(drawn, axis=axis)

        return scipys(data, spy, **options)

    monkeypatch.setattr(stats, "bootstrap", recording)
    source, target = example(37, ratio)
    result = compare_paired(source, target, seed=3, resamples=400)
    rows = [row for block in draws for row in block.tolist()]
    rows = [row for row in rows if row != list(range(37))]  # the statistic of the sample itself
    assert len(rows) == 400
    assert all(0 <= index < 37 for row in rows for index in row)

    def metric(values: PerQuery, row: list[int]) -> float:
        return sum(float(values.num[i]) for i in row) / sum(float(values.den[i]) for i in row)

    differences = [metric(target, row) - metric(source, row) for row in rows]
    whole = list(range(37))
    assert abs(result.difference - (metric(target, whole) - metric(source, whole))) < 1e-9

    def influence(values: PerQuery, i: int) -> float:
        share = sum(values.den.tolist()) / 37
        return (float(values.num[i]) - metric(values, whole) * float(values.den[i])) / share

    moved = [influence(target, i) - influence(source, i) for i in whole]
    acceleration = sum(m**3 for m in moved) / 6 / sum(m**2 for m in moved) ** 1.5
    observed, normal = result.difference, NormalDist()
    below = sum(d < observed - 1e-12 for d in differences) + sum(d <= observed + 1e-12 for d in differences)
    bias = normal.inv_cdf(below / 800)
    for got, level in (
        (result.lower, 0.025),
        (result.one_sided_lower, 0.05),
        (result.one_sided_upper, 0.95),
        (result.upper, 0.975),
    ):
        z = bias + normal.inv_cdf(level)
        adjusted = normal.cdf(bias + z / (1 - acceleration * z))
        if level < 0.5:
            expected = oracle_bound(differences, adjusted)
        else:
            expected = -oracle_bound([-d for d in differences], 1 - adjusted)
        assert abs(got - expected) < 1e-9


def test_pairs_travel_together() -> None:
    """An unpaired bootstrap (a planted bug) would see the queries' own spread; a paired one does not."""
    before = np.random.default_rng(1).random(500)
    result = compare_paired(recall(before), recall(before + 0.01), seed=1)
    assert result.upper - result.lower < 1e-9
    rng = np.random.default_rng(2)
    planted = [(before[rng.integers(0, 500, 500)] + 0.01).mean() - before.mean() for _ in range(200)]
    assert np.quantile(planted, 0.975) - np.quantile(planted, 0.025) > 0.02


@pytest.mark.parametrize("ratio", [False, True])
def test_sign_flip_against_all_exchanges(ratio: bool) -> None:
    source, target = example(12, ratio, seed=4)
    observed = abs(target.value - source.value)
    extreme = 0
    for flips in itertools.product([False, True], repeat=12):
        swap = np.array(flips)
        a = np.where(swap, target.num, source.num).sum() / np.where(swap, target.den, source.den).sum()
        b = np.where(swap, source.num, target.num).sum() / np.where(swap, source.den, target.den).sum()
        extreme += abs(b - a) >= observed - 1e-12
    exact = extreme / 2**12
    got = compare_paired(source, target, seed=5, resamples=20_000).p_value
    assert abs(got - exact) < 5 * math.sqrt(exact * (1 - exact) / 20_000) + 1e-4


def test_p_values() -> None:
    same = recall(np.tile([0.0, 1.0], 50))
    assert compare_paired(same, same, seed=0).p_value == 1.0
    better = recall(np.ones(100))
    assert compare_paired(same, better, seed=0, resamples=500).p_value == pytest.approx(1 / 501)
    assert compare_paired(better, same, seed=0, resamples=500).difference == -0.5


def test_mde_by_its_formula_and_by_its_meaning() -> None:
    source, target = example(400, False)
    gain = target.num - source.num
    error = standard_error(source, target)
    assert error == pytest.approx(np.std(gain, ddof=1) / 20, abs=1e-12)
    result = compare_paired(source, target, seed=0, resamples=100)
    error = math.hypot(error, 1 / 400)  # one query more that changes
    assert result.mde == pytest.approx((1.959963985 + 0.841621234) * error, abs=1e-9)
    # A true difference of the mde is called significant in 80% of repetitions.
    rng = np.random.default_rng(0)
    repeats = rng.normal(result.mde, error, 20_000)
    assert np.mean(repeats - 1.959964 * error > 0) == pytest.approx(0.8, abs=0.01)
    assert result.size_for(result.mde) == 400
    assert result.size_for(result.mde / 2) in (1600, 1601)


def test_queries_that_never_change_are_not_taken_for_a_sharp_set() -> None:
    """No change in 50 queries excludes little: by the rule of three up to 6% may change unseen."""
    same = recall(np.ones(50))
    few = compare_paired(same, same, seed=0, resamples=100)
    assert few.mde > 0.05
    assert (few.size_for(0.02) or 0) >= 141
    many = recall(np.ones(4_000))
    assert compare_paired(many, many, seed=0, resamples=100).mde < 0.001


def test_ratio_standard_error_against_jackknife() -> None:
    source, target = example(300, True)
    left_out = []
    for i in range(300):
        keep = np.arange(300) != i
        left_out.append(target.take(keep).value - source.take(keep).value)
    jackknife = math.sqrt(299 / 300 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    assert standard_error(source, target) == pytest.approx(jackknife, rel=0.02)


def test_one_sided_bound_covers_at_its_level() -> None:
    rng = np.random.default_rng(6)
    missed = 0
    for repeat in range(200):
        gain = rng.choice([-1.0, 0.0, 1.0], size=250, p=[0.08, 0.80, 0.12])
        result = compare_paired(recall(np.zeros(250)), recall(gain), seed=repeat, resamples=200)
        missed += result.one_sided_lower > 0.04
    assert missed <= 22, "5% of 200 and three standard deviations"
    assert missed >= 2, "a bound that never misses is not a 95% bound"


def test_without_evidence_everything_is_undefined() -> None:
    empty = PerQuery(np.zeros(0), np.zeros(0))
    nothing_accepted = PerQuery(np.zeros(5), np.zeros(5))
    for source, target in (
        (empty, empty),
        (recall([1.0]), recall([1.0])),
        (nothing_accepted, recall(np.ones(5))),
    ):
        result = compare_paired(source, target, seed=0)
        assert math.isnan(result.one_sided_lower)
        assert math.isnan(result.mde)
        assert result.size_for(0.02) is None
        assert result.to_document()["lower"] is None
    with pytest.raises(ValueError, match="same queries"):
        compare_paired(recall([1.0]), recall([1.0, 0.0]), seed=0)
    assert math.isnan(minimum_detectable_effect(float("nan")))


def test_a_metric_that_some_resamples_leave_undefined_has_no_bound() -> None:
    """One accepted answer in 40: a third of the resamples has none, so the ratio has no interval."""
    accepted = np.zeros(40)
    accepted[3] = 1.0
    result = compare_paired(PerQuery(accepted, accepted), recall(np.ones(40)), seed=0, resamples=200)
    assert result.difference == 0.0
    assert math.isnan(result.one_sided_lower)


def test_the_same_seed_gives_the_same_numbers() -> None:
    source, target = example(200, True)
    first = compare_paired(source, target, seed=7, resamples=300)
    assert first == compare_paired(source, target, seed=7, resamples=300)
    assert first != compare_paired(source, target, seed=8, resamples=300)


def test_interval_of_one_metric() -> None:
    values = recall(np.tile([0.0, 1.0, 1.0, 1.0], 100))
    low, high = interval(values)
    half = 1.959963985 * math.sqrt(0.75 * 0.25 * 400 / 399) / 20
    assert (low, high) == (pytest.approx(0.75 - half, abs=1e-9), pytest.approx(0.75 + half, abs=1e-9))
    assert interval(recall(np.ones(50))) == (1.0, 1.0)
    assert math.isnan(interval(recall([1.0]))[0])
