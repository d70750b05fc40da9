"""Rounds of passes in numbers: rate, spread, and ratios taken within a round.

Within a round the engines follow each other within seconds, so what else the machine does falls on both sides
of a ratio. The middle of the rounds is reported, with the least and the most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Spread:
    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.median(values)), float(min(values)), float(max(values)))


@dataclass(frozen=True)
class Ratio(Spread):
    """``best``: the best round of one over the best of the other. What disturbs a round only slows it down,
    so where the two disagree the machine was busy."""

    best: float


def ratio(mine: Sequence[float] | None, theirs: Sequence[float] | None) -> Ratio | str:
    """Per round, mine / theirs. "not measured" where either is missing: never a pass by default."""
    if not mine or not theirs or len(mine) != len(theirs):
        return NOT_MEASURED
    found = spread([a / b for a, b in zip(mine, theirs, strict=True)])
    return Ratio(found.median, found.least, found.most, max(mine) / max(theirs))


def order_of_round(names: Sequence[str], number: int) -> list[str]:
    """Rotated by one each round and reversed every second: no engine always follows the same other."""
    at = number % len(names)
    rotated = [*names[at:], *names[:at]]
    return rotated[::-1] if number % 2 else rotated
