"""The gates decide rightly: pass rates at true shifts, by the functions that the gates use."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from embedcore.evaluation.metrics import PerQuery
from embedcore.evaluation.populations import populations
from embedcore.evaluation.significance import compare_paired
from embedcore.evaluation.simulation import (
    Population,
    decide,
    recall_population,
    sequential_error,
    study,
)

RUNS, RESAMPLES = 300, 400
POPULATIONS = populations("demo")


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, float], dict[str, Any]]:
    found = study(POPULATIONS, runs=RUNS, resamples=RESAMPLES, shifts=(-0.02, 0.0, 0.01), seed=3)
    return {(row["policy"], row["shift"]): row for row in found["rows"]}


def allowance(rate: float) -> float:
    """Three standard deviations of a rate over the runs."""
    return 3 * math.sqrt(rate * (1 - rate) / RUNS)


def test_strict_refuses_a_loss_and_passes_a_gain(rows: Any) -> None:
    refused = rows["strict", -0.02]
    assert max(refused["consumer"].values()) <= 0.01, "the consumer's own gate, not another's coin toss"
    assert refused["one_shifted"] <= 0.05
    assert rows["strict", 0.01]["all_shifted"] >= 0.80


def test_non_inferior_passes_an_equal_model_and_refuses_a_loss(rows: Any) -> None:
    assert rows["non-inferior", 0.0]["all_shifted"] >= 0.90
    assert rows["non-inferior", -0.02]["one_shifted"] <= 0.05 + allowance(0.05), "5% at the margin, by design"
    assert rows["non-inferior", -0.02]["all_shifted"] <= 0.01
    # The margin is what is excluded: without it every loss would pass half the time or more.
    assert rows["non-inferior", -0.02]["one_shifted"] >= 0.005


def test_strict_asks_for_more_than_non_inferior(rows: Any) -> None:
    for shift in (-0.02, 0.0, 0.01):
        for name, rate in rows["strict", shift]["consumer"].items():
            assert rate <= rows["non-inferior", shift]["consumer"][name]
    for rate in rows["strict", 0.0]["consumer"].values():
        assert rate == pytest.approx(0.5, abs=allowance(0.5)), (
            "an equal model is worse as observed half the time"
        )


def test_a_gate_without_a_bound_would_fail_the_study() -> None:
    """The study can fail: a gate that passes whatever is not worse than -2 pp as observed lets a true loss
    of 2 pp through half the time."""
    population = POPULATIONS[0]
    rng = np.random.default_rng(0)
    counts = rng.multinomial(population.queries, population.shifted(-0.02), size=500)
    planted = population.difference(counts.astype(np.float64)) > -0.02
    assert planted.mean() == pytest.approx(0.5, abs=0.1)
    kept = decide(population, -0.02, runs=RUNS, resamples=RESAMPLES)
    assert kept.rate("non-inferior") <= 0.05 + allowance(0.05)


@pytest.mark.parametrize("population", [*POPULATIONS, *populations("whole")], ids=lambda p: p.name)
@pytest.mark.parametrize("shift", [-0.02, 0.0, 0.01])
def test_a_population_is_shifted_to_the_difference_asked_for(population: Population, shift: float) -> None:
    weights = population.shifted(shift)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert float(population.difference(weights)) == pytest.approx(shift, abs=1e-9)


def test_counts_of_cells_are_what_the_gate_computes_of_queries() -> None:
    """One golden set, query by query through the gate's comparison, and as counts through the study's."""
    for population in (POPULATIONS[0], POPULATIONS[3]):
        rng = np.random.default_rng(5)
        weights = population.shifted(0.0)
        counts = rng.multinomial(population.queries, weights)
        cells = np.repeat(population.cells, counts, axis=0)
        source, target = PerQuery(cells[:, 0], cells[:, 1]), PerQuery(cells[:, 2], cells[:, 3])
        compared = compare_paired(source, target, seed=1)
        assert float(population.difference(counts.astype(float))) == pytest.approx(compared.difference)
        share = counts / population.queries
        drawn = population.difference(rng.multinomial(population.queries, share, size=4_000).astype(float))
        assert float(np.quantile(drawn, 0.05)) == pytest.approx(compared.one_sided_lower, abs=5e-4)
        error = population.deviation(share) / math.sqrt(population.queries)
        assert float(np.std(drawn)) == pytest.approx(error, rel=0.05)


def test_a_set_that_is_too_small_decides_badly() -> None:
    small = recall_population("small", {-1: 0.05, 1: 0.05}, 0.5, 400)
    assert decide(small, 0.0, runs=RUNS, resamples=RESAMPLES).rate("non-inferior") < 0.9


def test_the_sequential_test_keeps_its_level_under_every_look() -> None:
    found = sequential_error(runs=1_000, looks=100, batch=100, rate=0.3, fall=0.02, seed=1)
    assert found["confidence_sequence"] <= 0.05
    assert found["fixed_sample"] > 0.10, "a fixed-sample bound asked as often does not"


def test_the_same_seed_gives_the_same_rates() -> None:
    first = decide(POPULATIONS[1], 0.01, runs=50, resamples=200, seed=4)
    again = decide(POPULATIONS[1], 0.01, runs=50, resamples=200, seed=4)
    assert np.array_equal(first.passed["strict"], again.passed["strict"])
