"""Retrieval metrics as per-query numerators and denominators; a metric is sum(num) / sum(den).

This one shape carries recall (a mean: every denominator is 1) and precision above a threshold (a ratio: a
query that was not accepted has denominator 0), so that one bootstrap serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcore.evaluation.interface import Bools, Floats, Ints
from embedcore.evaluation.ragged import Ragged


@dataclass(frozen=True)
class PerQuery:
    """float64 (n,) numerators and denominators, row i the same query in both."""

    num: Floats
    den: Floats

    def __post_init__(self) -> None:
        if self.num.shape != self.den.shape or self.num.ndim != 1:
            raise ValueError(f"expected two arrays (n,), got {self.num.shape} and {self.den.shape}")

    def __len__(self) -> int:
        return len(self.num)

    @property
    def value(self) -> float:
        """The metric; nan when no query has weight."""
        total = float(self.den.sum())
        return float(self.num.sum()) / total if total > 0 else float("nan")

    def take(self, index: Ints | Bools) -> PerQuery:
        return PerQuery(self.num[index], self.den[index])


def depth_for(k: int, exclude: Ragged) -> int:
    """How many results to ask for so that k are left whatever excluded items are among them."""
    return k + int(exclude.lengths.max(initial=0))


def recall_at_k(ids: NDArray[np.int64], relevant: Ragged, exclude: Ragged, k: int) -> PerQuery:
    """Recall of the first k results that are not excluded: found / min(relevant, k).

    ``ids``: int64 (n, depth) ascending in distance, -1 where there is no result; depth should be at
    least ``depth_for(k, exclude)``. A relevant item that a list repeats is found once.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    kept = (ids >= 0) & ~exclude.holds(ids)
    top = kept & (np.cumsum(kept, axis=1) <= k)
    rows, columns = np.nonzero(top & relevant.holds(ids))
    pairs = np.unique(np.stack([rows, ids[rows, columns]]), axis=1)
    found = np.bincount(pairs[0], minlength=len(ids)).astype(np.float64)
    possible = np.minimum(relevant.lengths, k).astype(np.float64)
    if np.any(possible == 0):
        raise ValueError("a query without relevant items has no recall; resolve the golden set first")
    return PerQuery(found / possible, np.ones(len(ids)))


@dataclass(frozen=True)
class TopAnswers:
    """The nearest result of each query that is not excluded, and whether the labels call it relevant."""

    item: Ints  # (n,) -1 where there is none
    distance: Floats  # (n,) inf where there is none
    correct: Bools  # (n,)

    def take(self, index: Ints | Bools) -> TopAnswers:
        return TopAnswers(self.item[index], self.distance[index], self.correct[index])

    def accepted(self, threshold: float) -> Bools:
        """Answers near enough to act on: distance <= threshold."""
        mask: Bools = (self.item >= 0) & (self.distance <= threshold)
        return mask


def top_answers(
    ids: NDArray[np.int64], distances: NDArray[np.float32], relevant: Ragged, exclude: Ragged
) -> TopAnswers:
    """The first result of each row after exclusions. Shapes as for :func:`recall_at_k`."""
    if ids.shape != distances.shape:
        raise ValueError(f"ids {ids.shape} and distances {distances.shape} differ in shape")
    kept = (ids >= 0) & ~exclude.holds(ids)
    if ids.shape[1] == 0:
        kept, ids = np.zeros((len(ids), 1), np.bool_), np.full((len(ids), 1), -1, np.int64)
        distances = np.full(ids.shape, np.inf, np.float32)
    first = np.argmax(kept, axis=1)
    row = np.arange(len(ids))
    some = kept[row, first]
    item = np.where(some, ids[row, first], -1)
    distance = np.where(some, distances[row, first], np.inf).astype(np.float64)
    return TopAnswers(item, distance, relevant.holds(item[:, None])[:, 0] & some)


def precision_at_1(top: TopAnswers, threshold: float) -> PerQuery:
    """num = accepted and correct, den = accepted."""
    accepted = top.accepted(threshold)
    return PerQuery((accepted & top.correct).astype(np.float64), accepted.astype(np.float64))


def found_share(top: TopAnswers, threshold: float) -> float:
    """Share of the queries whose duplicate was found: accepted and correct; nan without queries."""
    if len(top.item) == 0:
        return float("nan")
    return float(np.mean(top.accepted(threshold) & top.correct))
