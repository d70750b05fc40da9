"""The few functions of scipy.special that evaluations need, imported when they are first asked: half a second
that no start of a server should wait for.
"""

from __future__ import annotations

from typing import Any


def normal_quantile(share: Any) -> Any:
    """Of the standard normal distribution; a number or an array."""
    from scipy.special import ndtri

    return ndtri(share)


def normal_share(value: Any) -> Any:
    """The share of the standard normal distribution below a value; the inverse of the above."""
    from scipy.special import ndtr

    return ndtr(value)


def t_quantile(share: float, freedom: int) -> float:
    """Of Student's t with this many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))
