"""Human labels: several raters to one grade, how far they agree, and whether the order of showing mattered.

Agreement is Krippendorff's alpha (Krippendorff, "Content Analysis", 2004, chapter 11; ordinal by default):
any number of raters, gaps allowed, 1 perfect, 0 as by chance. Its interval is a bootstrap over the judged
pairs. The position's effect is tested by permutation: were the order of presentation without effect, a
rater's grades would be as they are whatever position each item was shown at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median_low
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedcore.evaluation.importing.judgements import Judgement, Key
from embedcore.evaluation.interface import Floats, Ints

Level = Literal["nominal", "ordinal", "interval"]
RESAMPLES = 1_000
PERMUTATIONS = 1_999
LOW_ALPHA = 0.667  # Krippendorff's bound for tentative conclusions


def grades_from_raters(
    rows: Sequence[Judgement], problems: list[str], seed: int = 0
) -> tuple[list[Judgement], dict[str, Any]]:
    """One judgement per (query, item) with the lower median of its raters' grades; and the evidence. A
    rater who judges a pair twice, and a grade that is missing, are problems."""
    by_pair: dict[Key, list[Judgement]] = {}
    seen: dict[tuple[Key, str], str] = {}
    for row in rows:
        if row.grade is None:
            problems.append(f"{row.where}: no grade; label it, or leave unlabelled rows out on purpose")
        elif (row.key, row.rater) in seen:
            problems.append(
                f"{row.where}: rater {row.rater!r} judges item {row.item!r} of query {row.query!r} again, "
                f"as in {seen[row.key, row.rater]}"
            )
        else:
            seen[row.key, row.rater] = row.where
            by_pair.setdefault(row.key, []).append(row)
    if problems or not by_pair:
        return [], {}
    merged = [
        replace(judged[0], grade=median_low([row.grade for row in judged if row.grade is not None]))
        for judged in by_pair.values()
    ]
    flat = [row for judged in by_pair.values() for row in judged]
    unit = _numbered([row.key for row in flat])
    rater = _numbered([row.rater for row in flat])
    grade = np.array([row.grade for row in flat], dtype=np.float64)
    table = np.full((len(by_pair), int(rater.max()) + 1), np.nan)
    table[unit, rater] = grade
    alpha, low, high = agreement(table, seed=seed)
    evidence: dict[str, Any] = {
        "raters": table.shape[1],
        "pairs": len(by_pair),
        "judgements": len(flat),
        "grade": "lower median over raters",
        "alpha": _number(alpha),
        "alpha_lower": _number(low),
        "alpha_upper": _number(high),
        "alpha_kind": "Krippendorff, ordinal",
        "agreement_low": bool(alpha < LOW_ALPHA),
    }
    position = np.array([row.position for row in flat], dtype=np.int64)
    if (position > 0).all():
        lists = _numbered([(row.query, row.rater) for row in flat])
        slope, p_value = position_effect(unit, lists, position, grade, seed=seed)
        evidence |= {
            "position_recorded": True,
            "position_slope": _number(slope),
            "position_p_value": _number(p_value),
            "position_test": "permutation within each rater's list, two-sided",
            "position_effect": bool(p_value < 0.05),
        }
    else:
        evidence |= {"position_recorded": False, "position_effect": None}
    return merged, evidence


def krippendorff_alpha(table: NDArray[np.float64], level: Level = "ordinal") -> float:
    """Alpha of grades (units, raters), nan where a rater did not judge a unit.

    nan when fewer than two units were judged twice; 1 when all grades are the same.
    """
    values, counts = _coincidences(table)
    return _alpha(values, counts, level)


def agreement(table: NDArray[np.float64], level: Level = "ordinal", seed: int = 0) -> tuple[float, ...]:
    """(alpha, lower, upper): the 95% interval by bootstrap over units."""
    values, counts = _coincidences(table)
    alpha = _alpha(values, counts, level)
    if not np.isfinite(alpha):
        return alpha, float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = [
        _alpha(values, counts[rng.integers(0, len(counts), len(counts))], level) for _ in range(RESAMPLES)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return alpha, float(low), float(high)


def _coincidences(table: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Distinct grades (v,), and how often each was given to each unit judged at least twice (u, v)."""
    judged = np.isfinite(table)
    pairable = table[judged.sum(axis=1) >= 2]
    values = np.unique(pairable[np.isfinite(pairable)])
    counts: Floats = (pairable[:, :, None] == values).sum(axis=1).astype(np.float64)
    return values, counts


def _alpha(values: Floats, counts: Floats, level: Level) -> float:
    if len(counts) < 2:
        return float("nan")
    per_unit = counts.sum(axis=1)
    matrix = (counts / (per_unit - 1)[:, None]).T @ counts - np.diag(
        (counts / (per_unit - 1)[:, None]).sum(0)
    )
    totals = matrix.sum(axis=0)
    distance = _distance(values, totals, level)
    expected = float((np.outer(totals, totals) * distance).sum()) / (float(totals.sum()) - 1)
    if expected == 0:
        return 1.0
    return 1.0 - float((matrix * distance).sum()) / expected


def _distance(values: Floats, totals: Floats, level: Level) -> Floats:
    """Squared difference of two grades by the level of measurement; (v, v)."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return np.square(values[:, None] - values[None, :])
    rank = np.cumsum(totals) - totals / 2  # ordinal: how many judgements lie between two grades
    return np.square(rank[:, None] - rank[None, :])


def position_effect(
    unit: Ints, lists: Ints, position: Ints, grade: Floats, seed: int = 0
) -> tuple[float, float]:
    """(change of grade per position further down, p-value). Arrays (n,): the judged pair, the list in which
    it was shown (one rater, one query), its place there and the grade.

    What an item is worth is taken out by its mean over raters, so that a sorted list does not look like an
    effect where raters saw different orders. nan when positions do not vary within any list.
    """
    left = grade - (np.bincount(unit, weights=grade) / np.bincount(unit))[unit]
    if not np.any(left):  # one rater per pair: nothing to take out
        left = grade
    place = position.astype(np.float64)
    centred = place - (np.bincount(lists, weights=place) / np.bincount(lists))[lists]
    spread = float(centred @ centred)
    if spread == 0:
        return float("nan"), float("nan")
    observed = float(centred @ left)
    rng = np.random.default_rng(seed)
    order = np.argsort(lists, kind="stable")
    extreme = 0
    for _ in range(PERMUTATIONS):
        # Sorted by (list, random): every list keeps its places, in another order.
        shuffled = np.lexsort((rng.random(len(lists)), lists))
        extreme += abs(float(centred[shuffled] @ left[order])) >= abs(observed) - 1e-12
    return observed / spread, (extreme + 1) / (PERMUTATIONS + 1)


def _numbered(keys: Sequence[Any]) -> Ints:
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
