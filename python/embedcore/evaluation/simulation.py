"""Does the gate decide rightly? Its pass rates at true shifts, by simulation over many golden sets.

A population is a table of what can happen to a query (found by neither, by one, by both models) with its
probabilities; it is tilted exponentially until the metric's true difference is the wanted shift. One run
draws n queries; its bootstrap draws are multinomial counts over the same table, which is what resampling
the queries gives, so that thousands of runs are one array operation. Bounds and the decision itself are
the functions that the gate uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq

from embedcore.evaluation.gates import quality_rule
from embedcore.evaluation.interface import Bools, Floats
from embedcore.evaluation.seeds import derive
from embedcore.evaluation.sequential import ALPHA, boundary, mixture_rho
from embedcore.evaluation.significance import acceleration, bca_bounds
from embedcore.migration_types import Plan

POLICIES: tuple[Literal["strict", "non-inferior"], ...] = ("strict", "non-inferior")
SHIFTS = (-0.02, -0.01, 0.0, 0.01, 0.02)
_CELLS = 4_000_000  # multinomial counts held at once


@dataclass(frozen=True)
class Population:
    """``cells`` float64 (c, 4): source numerator and denominator, target numerator and denominator of a
    query; ``weights`` (c,): their probabilities; ``queries``: how many of a golden set are judged."""

    name: str
    cells: Floats
    weights: Floats
    queries: int

    def difference(self, weights: Floats) -> Floats:
        """Target minus source of weights or counts (..., c)."""
        sums = weights @ self.cells
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = sums[..., 2] / sums[..., 3] - sums[..., 0] / sums[..., 1]
        return found

    def influence(self, weights: Floats) -> Floats:
        """(..., c): of a query in each cell on the difference (delta method); weights sum to 1."""
        sums = (weights @ self.cells)[..., None, :]
        before = (self.cells[:, 0] - sums[..., 0] / sums[..., 1] * self.cells[:, 1]) / sums[..., 1]
        after = (self.cells[:, 2] - sums[..., 2] / sums[..., 3] * self.cells[:, 3]) / sums[..., 3]
        found: Floats = after - before
        return found

    def shifted(self, shift: float) -> Floats:
        """Probabilities under which the true difference is ``shift``."""
        lean = self.influence(self.weights)

        def tilted(by: float) -> Floats:
            logs = np.log(np.maximum(self.weights, 1e-300)) + by * lean
            made = np.exp(logs - logs.max())
            return np.asarray(made / made.sum())

        by = brentq(lambda x: float(self.difference(tilted(x))) - shift, -60.0, 60.0, xtol=1e-12)
        return tilted(float(by))

    def deviation(self, weights: Floats) -> float:
        """Standard deviation of a query's influence; over sqrt(queries) it is the standard error."""
        lean = self.influence(weights)
        return math.sqrt(float(weights @ lean**2) - float(weights @ lean) ** 2)


def recall_population(name: str, gains: Mapping[float, float], base: float, queries: int) -> Population:
    """A mean of per-query values. ``gains``: change of a query's value -> share of queries; what is left
    does not change. ``base``: the source's metric, which plays no part in the paired difference."""
    kept = 1 - sum(gains.values())
    rows = [(base, 1.0, base + gain, 1.0) for gain in (0.0, *gains)]
    return Population(name, np.array(rows), np.array([kept, *gains.values()]), queries)


def precision_population(name: str, table: Mapping[tuple[str, str], float], queries: int) -> Population:
    """Precision among accepted answers. ``table``: (source, target) -> share, each side "right", "wrong" or
    "none" (not accepted)."""
    shape = {"right": (1.0, 1.0), "wrong": (0.0, 1.0), "none": (0.0, 0.0)}
    rows = [(*shape[before], *shape[after]) for before, after in table]
    weights = np.array(list(table.values()))
    return Population(name, np.array(rows), weights / weights.sum(), queries)


@dataclass(frozen=True)
class Decisions:
    """(runs,) per policy: whether the consumer's gate passed."""

    passed: Mapping[str, Bools]
    error: float  # standard error of the difference, true

    def rate(self, policy: str) -> float:
        return float(self.passed[policy].mean())


def decide(
    population: Population,
    shift: float,
    *,
    runs: int,
    resamples: int,
    margin: float = 0.02,
    seed: int = 0,
) -> Decisions:
    """Runs the gate on ``runs`` golden sets drawn at this true shift."""
    weights = population.shifted(shift)
    rng = np.random.default_rng(derive(seed, population.name, f"{shift:+.4f}"))
    n = population.queries
    plans = {policy: Plan(policy=policy, margin=margin) for policy in POLICIES}
    passed: dict[str, list[Bools]] = {policy: [] for policy in POLICIES}
    at_once = max(1, _CELLS // (resamples * len(weights)))
    for start in range(0, runs, at_once):
        counts = rng.multinomial(n, weights, size=min(at_once, runs - start))
        share = counts / n
        resampled = rng.multinomial(n, share[:, None, :], size=(len(share), resamples))
        drawn = population.difference(resampled.astype(np.float64))
        observed = population.difference(counts.astype(np.float64))
        lean = population.influence(share)
        skew = acceleration((counts * lean**2).sum(-1), (counts * lean**3).sum(-1))
        lower = bca_bounds(drawn, observed, skew, [0.05])[:, 0]
        for policy, plan in plans.items():
            bounded, not_worse = quality_rule(plan, observed, lower)
            passed[policy].append(np.asarray(bounded & not_worse))
    error = population.deviation(weights) / math.sqrt(n)
    return Decisions({policy: np.concatenate(found) for policy, found in passed.items()}, error)


def study(
    populations: Sequence[Population],
    *,
    runs: int,
    resamples: int,
    shifts: Sequence[float] = SHIFTS,
    seed: int = 0,
) -> dict[str, Any]:
    """Pass rates by policy and shift: of each consumer's gate, of the migration when one consumer (the one
    that passes most easily, where the shift is a loss) is shifted and the others are equal, and when all
    are shifted. Plain data."""
    decided = {
        population.name: {
            shift: decide(population, shift, runs=runs, resamples=resamples, seed=seed)
            for shift in sorted({*shifts, 0.0})
        }
        for population in populations
    }
    names = [population.name for population in populations]
    rows = []
    for policy in POLICIES:
        for shift in shifts:
            own = {name: decided[name][shift].rate(policy) for name in names}
            one = {
                name: _all([decided[other][shift if other == name else 0.0] for other in names], policy)
                for name in names
            }
            rows.append(
                {
                    "policy": policy,
                    "shift": shift,
                    "consumer": own,
                    "one_shifted": max(one.values()) if shift < 0 else min(one.values()),
                    "all_shifted": _all([decided[name][shift] for name in names], policy),
                }
            )
    return {
        "queries": {population.name: population.queries for population in populations},
        "standard_error": {name: decided[name][0.0].error for name in names},
        "runs": runs,
        "resamples": resamples,
        "seed": seed,
        "rows": rows,
    }


def _all(decisions: Sequence[Decisions], policy: str) -> float:
    """How often every gate passes; the consumers' golden sets are drawn independently."""
    return float(np.logical_and.reduce([one.passed[policy] for one in decisions]).mean())


def sequential_error(
    *, runs: int, looks: int, batch: int, rate: float, fall: float, share: float = 0.05, seed: int = 0
) -> dict[str, float]:
    """How often a canary whose true fall is exactly the margin ``fall`` passes at *any* look, when it is
    looked at after every ``batch`` events of the canary, from 500 on: by the confidence sequence, and by a
    fixed-sample bound asked as often."""
    rng = np.random.default_rng(derive(seed, "sequential"))
    others = round(batch / share * (1 - share))
    control = rng.binomial(others, rate, size=(runs, looks)).cumsum(axis=1)
    canary = rng.binomial(batch, rate - fall, size=(runs, looks)).cumsum(axis=1)
    n1 = batch * np.arange(1, looks + 1)
    n0 = others * np.arange(1, looks + 1)
    p1, p0 = canary / n1, control / n0
    error = np.sqrt(p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)
    rho = mixture_rho(ALPHA, 500 / share)
    width = np.array([boundary(float(count), ALPHA, rho) for count in n0 + n1])
    judged = n1 >= 500
    return {
        "confidence_sequence": float(((p1 - p0 - width * error > -fall) & judged).any(axis=1).mean()),
        "fixed_sample": float(((p1 - p0 - 1.6449 * error > -fall) & judged).any(axis=1).mean()),
        "looks": float(judged.sum()),
    }
