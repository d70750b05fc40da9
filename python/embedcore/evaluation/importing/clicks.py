"""Labels from clicks, corrected for position: people click what they look at, and they look at the top.

Position-based model: an item of relevance r (the chance of a click once it is looked at) shown at position
k is clicked with probability p(k) r. Grades are the inverse-propensity estimate of r,

    r = sum over its impressions of (click / p(position)) / impressions,

unbiased where the p(k) are right: Joachims, Swaminathan & Schnabel, "Unbiased Learning-to-Rank with Biased
Feedback", WSDM 2017. The p(k) are given, or estimated by expectation maximisation of the same model: Wang,
Golbandi, Bendersky, Metzler & Najork, "Position Bias Estimation for Unbiased Learning to Rank in Personal
Search", WSDM 2018. That needs items that were shown at several positions, chained over all of them; where
there is no such chain, relevance and position cannot be told apart and the import is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.importing.judgements import Judgement
from embedcore.evaluation.interface import Floats, Ints

IPS = "inverse propensity (Joachims, Swaminathan & Schnabel, WSDM 2017)"
EM = "position-based model by expectation maximisation (Wang et al., WSDM 2018)"
_ITERATIONS = 2_000
_CONVERGED = 1e-9


@dataclass(frozen=True)
class ClickRules:
    """``least_propensity`` bounds the weight of one click (1 / it): less variance for some bias. A pair shown
    fewer than ``min_impressions`` times is not labelled; below ``min_relevance`` it is not relevant."""

    propensities: Mapping[int, float] | None = None  # position -> p; None: estimated
    least_propensity: float = 0.05
    min_impressions: int = 10
    min_relevance: float = 0.1


def grades_from_clicks(
    rows: Sequence[Judgement], rules: ClickRules, problems: list[str]
) -> tuple[list[Judgement], dict[str, Any]]:
    """One judgement per (query, item), graded; and the evidence: propensities, their source, what was left
    out. A row without position or impressions is a problem, as is a position without a given propensity."""
    for row in rows:
        if row.position < 1 or row.impressions < 1:
            problems.append(f"{row.where}: clicks need position >= 1 and impressions >= 1")
    if problems or not rows:
        return [], {}
    keys = {key: number for number, key in enumerate(dict.fromkeys(row.key for row in rows))}
    pair = np.array([keys[row.key] for row in rows], dtype=np.int64)
    position = np.array([row.position for row in rows], dtype=np.int64)
    shown = np.array([row.impressions for row in rows], dtype=np.float64)
    clicked = np.array([row.clicks for row in rows], dtype=np.float64)
    known, source = rules.propensities, "given"
    if known is None:
        known, source = estimate_propensities(pair, position, shown, clicked), EM
    lacking = sorted(set(position.tolist()) - set(known))
    if lacking:
        raise InvalidArgument(f"no propensity for position {lacking[0]}; give one for every position shown")
    weight = 1 / np.maximum([known[at] for at in position.tolist()], rules.least_propensity)
    impressions = np.bincount(pair, weights=shown)
    relevance = np.bincount(pair, weights=clicked * weight) / impressions
    enough = impressions >= rules.min_impressions
    grade = np.where(relevance >= rules.min_relevance, np.round(np.minimum(relevance, 1.0), 3), 0.0)
    first = {row.key: row for row in reversed(rows)}
    labelled = [replace(first[key], grade=float(grade[i])) for key, i in keys.items() if enough[i]]
    evidence = {
        "estimator": IPS,
        "propensities": {str(at): float(known[at]) for at in sorted(known)},
        "propensities_from": source,
        "least_propensity": rules.least_propensity,
        "min_impressions": rules.min_impressions,
        "min_relevance": rules.min_relevance,
        "impressions": int(shown.sum()),
        "clicks": int(clicked.sum()),
        "pairs": len(keys),
        "pairs_shown_too_rarely": int(np.sum(~enough)),
    }
    return labelled, evidence


def estimate_propensities(pair: Ints, position: Ints, shown: Floats, clicked: Floats) -> dict[int, float]:
    """Position -> chance that it is looked at, relative to the first position, which is 1.

    Arrays (n,): number of the (query, item) pair, position, impressions and clicks there. The likelihood is
    maximised over p(k) and r together. FailedPrecondition when no chain of shared items joins all positions.
    """
    places, at = np.unique(position, return_inverse=True)
    pairs = int(pair.max()) + 1
    _joined(pair, at, places, pairs)
    look = np.full(len(places), 0.5)
    relevant = np.full(pairs, 0.5)
    shown_at = np.bincount(at, weights=shown)
    shown_of = np.bincount(pair, weights=shown)
    unclicked = shown - clicked
    for _ in range(_ITERATIONS):
        p, r = look[at], relevant[pair]
        silent = unclicked / np.maximum(1 - p * r, 1e-12)
        new_look = np.bincount(at, weights=clicked + silent * p * (1 - r)) / shown_at
        new_relevant = np.bincount(pair, weights=clicked + silent * r * (1 - p)) / shown_of
        moved = max(np.abs(new_look - look).max(), np.abs(new_relevant - relevant).max())
        look, relevant = new_look, new_relevant
        if moved < _CONVERGED:
            break
    if look[0] <= 0:
        raise FailedPrecondition("nothing was clicked at the first position; give the propensities")
    return {int(place): float(value) for place, value in zip(places, look / look[0], strict=True)}


def _joined(pair: Ints, at: Ints, places: Ints, pairs: int) -> None:
    edges = coo_array((np.ones(len(pair)), (pair, pairs + at)), shape=(pairs + len(places),) * 2)
    _, label = connected_components(edges, directed=False)
    if len(set(label[pairs:].tolist())) > 1:
        raise FailedPrecondition(
            "the items of these clicks were each shown at one position (or positions share no items): how "
            "often a position is looked at cannot be told from how good its items are; give propensities, "
            "e.g. from a small share of traffic with shuffled results"
        )
