"""Seconds and rates as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """``3 d 4 h``, ``2 h 5 min``, ``3 min 20 s``, ``12 s``, ``0.4 s``."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, inner, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // inner
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def rate(per_second: float) -> str:
    """``12.5/s``, or ``36/h`` where time runs fast and a second holds too little."""
    return f"{per_second:.1f}/s" if per_second >= 1 or per_second == 0 else f"{per_second * 3_600:.0f}/h"
