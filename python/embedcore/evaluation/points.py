"""Shares and differences of shares in percentage points, as gates, pages and the command line write them."""

from __future__ import annotations


def pp(value: float | None, *, sign: bool = True) -> str:
    """0.0123: "+1.23 pp"; None: "-"."""
    return "-" if value is None else f"{value * 100:{'+' if sign else ''}.2f} pp"


def pp_interval(lower: float | None, upper: float | None) -> str:
    """In percentage points, without the unit; "-" where a bound is missing."""
    return "-" if lower is None or upper is None else f"[{lower * 100:+.2f}, {upper * 100:+.2f}]"
