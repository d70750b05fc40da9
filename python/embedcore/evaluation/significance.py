"""Paired comparison of two ratio metrics: bootstrap interval, sign-flip test, minimum detectable effect.

Queries are the sampling unit. The draws are scipy's bootstrap over queries; bounds are their BCa quantiles
(Efron, JASA 1987) with the acceleration from the linearised influence of each query: where losses are rarer
and larger than gains, plain percentiles pass a loss of exactly the margin more often than 5%. The p-value
is a two-sided randomisation test that exchanges the two models' values within a query (Smucker, Allan &
Carterette, CIKM 2007).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embedcore.evaluation.interface import Floats
from embedcore.evaluation.metrics import PerQuery
from embedcore.evaluation.quantiles import normal_quantile, normal_share

RESAMPLES = 2_000
CONFIDENCE = 0.95
POWER = 0.80
MIN_QUERIES = 30  # below it neither interval nor variance means much
_BATCH = 200  # resamples held in memory at once
_NAN = float("nan")
_TIE = 1e-12  # values this close are one value, summed in another order
# Stands for nan inside scipy, which warns of it; no difference of two shares is this large.
_UNDEFINED = 10.0


@dataclass(frozen=True)
class Comparison:
    """Target minus source, in the metric's unit (0.01 = 1 pp). nan where it cannot be computed."""

    difference: float
    lower: float  # two-sided 95% interval
    upper: float
    one_sided_lower: float  # one-sided 95% bounds
    one_sided_upper: float
    p_value: float  # two-sided
    n: int  # paired queries
    mde: float  # true difference that n queries detect: two-sided 95% confidence, 80% power
    resamples: int
    seed: int

    def size_for(self, effect: float) -> int | None:
        """How many queries would detect ``effect``; None when the variance is unknown."""
        if not math.isfinite(self.mde) or effect <= 0:
            return None
        return max(MIN_QUERIES, math.ceil(self.n * (self.mde / effect) ** 2))

    def to_document(self) -> dict[str, Any]:
        return {name: finite(value) for name, value in asdict(self).items()}


def finite(value: Any) -> Any:
    """None in place of a float that JSON cannot carry."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def compare_paired(
    source: PerQuery, target: PerQuery, *, seed: int, resamples: int = RESAMPLES
) -> Comparison:
    """Compares two metrics over the same queries, row by row. Deterministic in ``seed``.

    With no query, or a metric without weight on either side, everything is nan: no evidence.
    """
    n = len(source)
    if n != len(target):
        raise ValueError(f"paired comparison needs the same queries, got {n} and {len(target)}")
    difference = target.value - source.value
    if n < 2 or not math.isfinite(difference):
        return Comparison(_NAN, _NAN, _NAN, _NAN, _NAN, _NAN, n, _NAN, resamples, seed)
    bootstrap_seed, flip_seed = np.random.SeedSequence(seed).spawn(2)
    drawn = _bootstrap(source, target, resamples, np.random.default_rng(bootstrap_seed))
    influence = linearised(target) - linearised(source)
    tail = 1 - CONFIDENCE
    skew = acceleration(float(np.sum(influence**2)), float(np.sum(influence**3)))
    lower, low, high, upper = bca_bounds(
        drawn, np.float64(difference), skew, [tail / 2, tail, 1 - tail, 1 - tail / 2]
    )
    return Comparison(
        difference=difference,
        lower=float(lower),
        upper=float(upper),
        one_sided_lower=float(low),
        one_sided_upper=float(high),
        p_value=_sign_flip(source, target, resamples, np.random.default_rng(flip_seed)),
        n=n,
        # As if one more query changed by 1: where none did, the observed variance says nothing.
        mde=minimum_detectable_effect(math.hypot(standard_error(source, target), 1 / n)),
        resamples=resamples,
        seed=seed,
    )


def _bootstrap(source: PerQuery, target: PerQuery, resamples: int, rng: np.random.Generator) -> Floats:
    """(resamples,) differences of the two ratios over queries drawn with replacement."""
    from scipy.stats import bootstrap  # a second of imports, which no start of a server should wait for

    equal_weight = bool(np.all(source.den == 1) and np.all(target.den == 1))
    gain = target.num - source.num

    def statistic(drawn: Any, axis: int = -1) -> Any:
        if equal_weight:
            return gain[drawn].mean(axis=axis)
        with np.errstate(invalid="ignore", divide="ignore"):
            after = target.num[drawn].sum(axis=axis) / target.den[drawn].sum(axis=axis)
            before = source.num[drawn].sum(axis=axis) / source.den[drawn].sum(axis=axis)
        return np.nan_to_num(after - before, nan=_UNDEFINED)

    # Row numbers are drawn, not values: both models' values of a query always travel together.
    result = bootstrap(
        (np.arange(len(source)),),
        statistic,
        n_resamples=resamples,
        batch=_BATCH,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",  # scipy's own BCa would jackknife n x n values; the draws are the same
        rng=rng,
    )
    drawn = np.array(result.bootstrap_distribution, dtype=np.float64)
    drawn[drawn == _UNDEFINED] = _NAN
    return drawn


def acceleration(squares: Any, cubes: Any) -> Floats:
    """Of the sums over queries of influence^2 and influence^3: skewness / 6; 0 without spread."""
    spread = np.asarray(squares, np.float64)
    safe = np.where(spread > 0, spread, 1.0)
    found: Floats = np.where(spread > 0, np.asarray(cubes) / (6 * safe**1.5), 0.0)
    return found


def bca_bounds(drawn: Floats, observed: Any, skew: Floats, levels: list[float]) -> Floats:
    """(..., L): quantiles of the draws (..., B) at these levels, corrected for bias and skewness; those
    below 0.5 are lower bounds, the others upper ones.

    ``observed`` and ``skew`` (...): the estimate itself and its acceleration. nan where a draw is.
    """
    estimate = np.asarray(observed, np.float64)[..., None]
    # Draws equal to the observed value count half: metrics are discrete.
    below = 0.5 * (np.mean(drawn < estimate - _TIE, axis=-1) + np.mean(drawn <= estimate + _TIE, axis=-1))
    count = drawn.shape[-1]
    bias = normal_quantile(np.clip(below, 0.5 / count, 1 - 0.5 / count))[..., None]
    shifted = bias + normal_quantile(levels)
    adjusted = normal_share(bias + shifted / (1 - np.asarray(skew)[..., None] * shifted))
    ordered = np.sort(drawn, axis=-1)
    mirrored = -ordered[..., ::-1]
    bounds: Floats = np.stack(
        [
            _outside(ordered, adjusted[..., place])
            if level < 0.5
            else -_outside(mirrored, 1 - adjusted[..., place])
            for place, level in enumerate(levels)
        ],
        axis=-1,
    )
    return np.where(np.isnan(drawn).any(axis=-1, keepdims=True), _NAN, bounds)


def _outside(ordered: Floats, share: Floats) -> Floats:
    """(...): of the ascending draws (..., B), the largest with at most this share of them at or below it.

    Metrics lie on a lattice (one query more or less), where an interpolated quantile covers too little: the
    step below it is the one that holds its level.
    """
    count = ordered.shape[-1]
    allowed = np.floor(share * count + 1e-9).astype(np.int64)
    value = np.take_along_axis(ordered, np.maximum(allowed - 1, 0)[..., None], -1)
    ties = np.sum(ordered <= value + _TIE, axis=-1) > np.maximum(allowed, 1)
    under = np.maximum(np.sum(ordered < value - _TIE, axis=-1) - 1, 0)
    found: Floats = np.where(ties, np.take_along_axis(ordered, under[..., None], -1)[..., 0], value[..., 0])
    return found


def _sign_flip(source: PerQuery, target: PerQuery, resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p-value, never below 1 / (resamples + 1)."""
    values = np.stack([source.num, source.den, target.num, target.den], axis=1)
    swap = np.stack(
        [target.num - source.num, target.den - source.den, source.num - target.num, source.den - target.den],
        axis=1,
    )
    total = values.sum(axis=0)
    observed = abs(total[2] / total[3] - total[0] / total[1])
    extreme = 0
    for start in range(0, resamples, _BATCH):
        count = min(_BATCH, resamples - start)
        flips = rng.integers(0, 2, size=(count, len(source)), dtype=np.int8).astype(np.float64)
        sums = total + flips @ swap
        with np.errstate(invalid="ignore", divide="ignore"):
            flipped = np.abs(sums[:, 2] / sums[:, 3] - sums[:, 0] / sums[:, 1])
        # nan (no weight left on a side) counts as extreme: it must not make a result look significant.
        extreme += int(np.sum(~(flipped < observed - 1e-12)))
    return (extreme + 1) / (resamples + 1)


def linearised(values: PerQuery) -> Floats:
    """(n,) influence of each query on the ratio (delta method); its mean is 0."""
    influence: Floats = (values.num - values.value * values.den) / values.den.mean()
    return influence


def standard_error(source: PerQuery, target: PerQuery) -> float:
    """Of the paired difference, by linearisation; nan below two queries."""
    if len(source) < 2:
        return _NAN
    influence = linearised(target) - linearised(source)
    return float(np.std(influence, ddof=1) / math.sqrt(len(influence)))


def minimum_detectable_effect(error: float) -> float:
    """The true difference seen as significant (two-sided 95%) in 80% of repetitions."""
    return float((normal_quantile(0.5 + CONFIDENCE / 2) + normal_quantile(POWER)) * error)


def interval(values: PerQuery) -> tuple[float, float]:
    """95% interval of one metric by linearisation, cut to [0, 1]; nan below two queries."""
    if len(values) < 2 or not math.isfinite(values.value):
        return _NAN, _NAN
    half = float(normal_quantile(0.5 + CONFIDENCE / 2) * np.std(linearised(values), ddof=1))
    half /= math.sqrt(len(values))
    return max(0.0, values.value - half), min(1.0, values.value + half)
