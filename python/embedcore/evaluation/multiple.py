"""Several consumers at once: which differences may be *claimed*, after Holm's correction.

Gates are not corrected: all have to pass, so each is tested at the full level. A claim ("ads improved") and
an alarm ("ads lost") are made for any consumer that shows one, so by chance one of several would. Holm,
"A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Statistics 6, 1979; with the direction
that was observed, which keeps wrong directions within the level too (Shaffer, Ann. Statist. 8, 1980).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from embedcore.evaluation.result import Compared

LEVEL = 0.05


@dataclass(frozen=True)
class Claim:
    """``p_adjusted``: Holm-adjusted two-sided p-value over the consumers that were compared."""

    verdict: Literal["improvement", "loss", "none"]
    difference: float
    p_value: float
    p_adjusted: float


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values by name: at most 1, and not below those of smaller p-values; nan is no test."""
    tested = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    adjusted = dict.fromkeys(p_values, float("nan"))
    highest = 0.0
    for rank, (p, name) in enumerate(tested):
        highest = max(highest, min(1.0, p * (len(tested) - rank)))
        adjusted[name] = highest
    return adjusted


def claims(compared: Mapping[str, Compared], level: float = LEVEL) -> dict[str, Claim]:
    """Consumer -> what may be said of it when all of these consumers are looked at."""
    adjusted = holm({name: one.comparison.p_value for name, one in compared.items()})
    found: dict[str, Claim] = {}
    for name, one in compared.items():
        difference = one.comparison.difference
        verdict: Literal["improvement", "loss", "none"] = "none"
        if adjusted[name] <= level and difference != 0:
            verdict = "improvement" if difference > 0 else "loss"
        found[name] = Claim(verdict, difference, one.comparison.p_value, adjusted[name])
    return found
