"""Bounds that stay valid while being watched: asymptotic confidence sequences for means.

Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52(6), 2024, arXiv:2103.06476: the one-sided Gaussian-mixture boundary. With
probability 1 - alpha the true mean is never below the lower bound at *any* look, so a gate may be asked after
every batch and stopped at the first pass. Fixed-sample intervals asked that often pass a loss far too often.

Not for small samples: the guarantee is asymptotic in the count at the first look, hence a minimum count.
"""

from __future__ import annotations

import math

ALPHA = 0.05


def mixture_rho(alpha: float, best_at: float) -> float:
    """The mixture's width for which the boundary is tightest at ``best_at`` observations.

    It must be fixed before the data are seen; a poor choice costs width, never validity.
    """
    level = -2 * math.log(min(2 * alpha, 0.99))
    return math.sqrt((level + math.log(level + 1)) / best_at)


def boundary(count: float, alpha: float, rho: float) -> float:
    """How many standard errors below the estimate the one-sided bound lies after ``count`` observations.

    With s = t rho^2 + 1 the bound is  mean - sigma sqrt(2 s / (t^2 rho^2) log(1 + sqrt(s) / (2 alpha)));
    here sigma / sqrt(t), the standard error, is factored out.
    """
    if count <= 0:
        return math.inf
    spread = count * rho * rho + 1
    return math.sqrt(2 * spread / (count * rho * rho) * math.log(1 + math.sqrt(spread) / (2 * alpha)))


def lower_bound(
    estimate: float, error: float, count: float, *, best_at: float, alpha: float = ALPHA
) -> float:
    """Always-valid one-sided lower bound. ``error``: standard error of the estimate after ``count``.

    For a difference of two arms' means, ``count`` is the observations of both arms and the error is
    sqrt(s1^2/n1 + s0^2/n0): with assignment by fixed shares the estimate is asymptotically the mean of
    ``count`` influence terms of that variance.
    """
    return estimate - error * boundary(count, alpha, mixture_rho(alpha, best_at))
