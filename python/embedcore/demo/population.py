"""Simulated users: they see answers that were really served, and click by a position model.

The answers of both arms come from the server; what is drawn here is who asks what (uniformly over the
golden queries) and what they click. So the inference is over users of *this* query population, and the
counts say how many users were drawn, not how many answers were seen. Every report is marked as simulated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import InvalidArgument
from embedcore.types import Consumer

# A user looks at rank r (from 1) with probability 1 / log2(1 + r), the discount of nDCG (Järvelin &
# Kekäläinen 2002), clicks a relevant item that was looked at with probability ATTRACTED x grade, and any
# other by mistake.
ATTRACTED: Final = 0.8
MISTAKEN: Final = 0.01
_ROWS = 100_000

Totals = dict[str, float]


@dataclass(frozen=True, slots=True)
class Served:
    """Answers to the same queries in the same order: item ids per query, best first."""

    arm: str
    answers: Sequence[Sequence[str]]


def click_probabilities(
    answers: Sequence[Sequence[str]], relevant: Sequence[Mapping[str, float]], k: int
) -> NDArray[np.float64]:
    """(queries, k): probability of a click at each rank; 0 where fewer than k were served.

    Grades above 1 count as 1. Raises InvalidArgument when the lengths differ.
    """
    if len(answers) != len(relevant):
        raise InvalidArgument(f"{len(answers)} answers, but labels of {len(relevant)} queries")
    looked_at: NDArray[np.float64] = 1.0 / np.log2(1.0 + np.arange(1, k + 1))
    found: NDArray[np.float64] = np.zeros((len(answers), k))
    for row, (ids, labels) in enumerate(zip(answers, relevant, strict=True)):
        grades = np.array([min(1.0, labels.get(item_id, 0.0)) for item_id in ids[:k]])
        found[row, : len(grades)] = np.where(grades > 0, ATTRACTED * grades, MISTAKEN)
    found *= looked_at
    return found


def draw(probabilities: NDArray[np.float64], users: int, rng: np.random.Generator) -> Totals:
    """Totals of ``users`` independent users, each with one query: impressions, clicks (users with at least
    one), depth (clicks summed) and depth_squared."""
    clicks = depth = squares = 0
    for start in range(0, users, _ROWS):
        rows = rng.integers(len(probabilities), size=min(_ROWS, users - start))
        chosen = probabilities[rows]
        per_user = (rng.random(chosen.shape, dtype=np.float32) < chosen).sum(axis=1)
        clicks += int((per_user > 0).sum())
        depth += int(per_user.sum())
        squares += int((per_user * per_user).sum())
    return {
        "impressions": float(users),
        "clicks": float(clicks),
        "depth": float(depth),
        "depth_squared": float(squares),
    }


def draw_agreement(
    control: Sequence[Sequence[str]],
    canary: Sequence[Sequence[str]],
    users: int,
    rng: np.random.Generator,
) -> Totals:
    """Totals of ``users`` decisions: in how many both arms put the same item first."""
    if len(control) != len(canary):
        raise InvalidArgument(f"{len(control)} control answers, but {len(canary)} of the canary")
    same = np.array([c[:1] == t[:1] for c, t in zip(control, canary, strict=True)])
    rows = rng.integers(len(same), size=users)
    return {"compared": float(users), "agreed": float(same[rows].sum())}


def canary_users(consumer: Consumer) -> int:
    """How many canary users decide: forty times the consumer's minimum count, so that even a canary no better
    than the control usually excludes the fall; at least 20,000."""
    return max(20_000, 40 * consumer.engagement_min_count)


def control_users(canary: int, canary_share: float) -> int:
    """The other arm of the same traffic."""
    if not 0 < canary_share < 1:
        raise InvalidArgument(f"the canary's share must be between 0 and 1, got {canary_share}")
    return math.ceil(canary * (1 - canary_share) / canary_share)
