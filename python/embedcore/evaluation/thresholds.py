"""The score threshold of a precision consumer, per generation: distances of two models do not compare.

Removing a unique item is worse than missing a duplicate, so the threshold is the strictest one that still
finds the stated share of the duplicates. It is chosen on the even-numbered half of the golden queries and
the metric is reported on the odd-numbered half, so that no query judges a threshold it helped to choose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embedcore.evaluation.interface import Bools, Ints
from embedcore.evaluation.metrics import TopAnswers


@dataclass(frozen=True)
class Threshold:
    """``distance``: accept at or below; inf accepts all, which is what is left when ``reached`` is false."""

    distance: float
    reached: bool  # the share of duplicates is found at this threshold, on the half that chose it
    found_share: float  # on the half that chose it
    queries: int  # size of that half


def halves(rows: Ints) -> tuple[Bools, Bools]:
    """Masks of the half that calibrates (even positions in the golden set) and the half that reports."""
    even: Bools = rows % 2 == 0
    return even, ~even


def choose_threshold(top: TopAnswers, min_found_share: float) -> Threshold:
    """The smallest distance at which at least ``min_found_share`` of the queries are correctly accepted.

    A threshold below it finds fewer; any above it accepts more and is less strict. When accepting all
    does not reach the share, the threshold is inf and ``reached`` is false.
    """
    queries = len(top.item)
    correct = np.sort(top.distance[top.correct])
    # Without the slack 0.9 * 10 could ask for 10 instead of 9 by a rounding of the product.
    needed = max(1, math.ceil(min_found_share * queries - 1e-9))
    if queries == 0 or len(correct) < needed:
        share = len(correct) / queries if queries else 0.0
        return Threshold(math.inf, False, share, queries)
    distance = float(correct[needed - 1])
    return Threshold(distance, True, int(np.sum(correct <= distance)) / queries, queries)
