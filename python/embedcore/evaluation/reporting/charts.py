"""Charts as inline SVG, without a plotting package: intervals, queries, recall against latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final

GOOD: Final = "#1f7a3d"
BAD: Final = "#b3261e"
UNSURE: Final = "#9a6700"
INK: Final = "#1c2024"
FAINT: Final = "#9aa3ad"
SOURCE: Final = "#5b6b7b"
TARGET: Final = "#1b6ca8"


def forest(rows: Sequence[Mapping[str, Any]], margin: float) -> str:
    """Difference per consumer with its 95% interval, against 0 and the margin.

    Rows: name, passed, loses (refused for more than a lack of evidence), difference, lower, upper,
    one_sided_lower (shares, None where undefined), text, verdict.
    """
    width, left, right, line = 860, 110, 300, 44
    height = line * len(rows) + 46
    values = [abs(row[key]) for row in rows for key in ("lower", "upper") if row[key] is not None]
    reach = float(max([1.6 * margin, *(1.08 * value for value in values)]))
    plot = width - left - right

    def x(value: float) -> float:
        return left + plot * (value + reach) / (2 * reach)

    parts = [
        _rect(x(-reach), 18, x(-margin) - x(-reach), height - 46, "#fbe9e7"),
        _line(x(0), 18, x(0), height - 28, INK, 1.2),
        _line(x(-margin), 18, x(-margin), height - 28, BAD, 1.2, dash="4 3"),
        _text(x(0) + 4, 12, "no change", "start", 11, FAINT),
        _text(x(-margin) - 4, 12, f"margin {-margin * 100:g} pp", "end", 11, BAD),
    ]
    for tick in _ticks(reach):
        parts.append(_text(x(tick), height - 10, f"{tick * 100:+g} pp" if tick else "0", "middle", 11, FAINT))
        parts.append(_line(x(tick), height - 28, x(tick), height - 23, FAINT, 1))
    for number, row in enumerate(rows):
        y = 18 + line * (number + 0.5)
        colour = GOOD if row["passed"] else BAD if row["loses"] else UNSURE
        parts.append(_text(left - 14, y + 5, str(row["name"]), "end", 15, INK, bold=True))
        if row["lower"] is not None and row["upper"] is not None:
            parts.append(_line(x(row["lower"]), y, x(row["upper"]), y, colour, 3))
        if row["one_sided_lower"] is not None:
            at = x(row["one_sided_lower"])
            parts.append(_line(at, y - 8, at, y + 8, colour, 2))
        if row["difference"] is not None:
            parts.append(f'<circle cx="{x(row["difference"]):.1f}" cy="{y:.1f}" r="6" fill="{colour}"/>')
        parts.append(_text(width - right + 18, y - 3, str(row["text"]), "start", 13, INK))
        parts.append(_text(width - right + 18, y + 14, str(row["verdict"]), "start", 12, colour, bold=True))
    return _svg(width, height, parts, "difference per consumer with 95% interval")


def scatter(points: Sequence[Mapping[str, Any]], names: tuple[str, str], precision: bool) -> str:
    """Queries by their value under source (across) and target (up); area of a dot: how many. Above the
    diagonal the target is better."""
    size, edge = 340, 46
    plot = size - edge - 26
    most = max((point["count"] for point in points), default=1)

    def at(value: float) -> float:
        return edge + plot * value

    def up(value: float) -> float:
        return size - edge - plot * value

    parts = [
        f'<polygon points="{at(0):.0f},{up(0):.0f} {at(1):.0f},{up(1):.0f} {at(1):.0f},{up(0):.0f}" '
        'fill="#fbe9e7"/>',
        _line(at(0), up(0), at(1), up(1), FAINT, 1),
        _line(at(0), up(0), at(1), up(0), INK, 1),
        _line(at(0), up(0), at(0), up(1), INK, 1),
        _text(at(0.5), size - 6, names[0], "middle", 12, INK),
        f'<text x="12" y="{up(0.5):.0f}" font-size="12" fill="{INK}" text-anchor="middle" '
        f'transform="rotate(-90 12 {up(0.5):.0f})">{escape(names[1])}</text>',
        _text(at(0.97), up(0.05), "worse", "end", 11, BAD),
        _text(at(0.03), up(0.94), "better", "start", 11, GOOD),
    ]
    labels = {0.0: "wrong", 0.5: "not acc.", 1.0: "right"} if precision else {0.0: "0", 0.5: "0.5", 1.0: "1"}
    for value, label in labels.items():
        parts.append(_text(at(value), size - edge + 15, label, "middle", 10, FAINT))
        parts.append(_text(edge - 5, up(value) + 3, label, "end", 10, FAINT))
    for point in points:
        x, y, count = float(point["source"]), float(point["target"]), int(point["count"])
        radius = 1.6 + 16 * math.sqrt(count / most)
        colour = GOOD if y > x else BAD if y < x else FAINT
        parts.append(
            f'<circle cx="{at(x):.1f}" cy="{up(y):.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.45" '
            f'stroke="{colour}"><title>{count} queries: {x:g} to {y:g}</title></circle>'
        )
    return _svg(size, size, parts, "queries by their value under source and target")


def recall_latency(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], now: Mapping[str, int], target: float
) -> str:
    """Recall against exact search over p95 latency (ms, one query a call), a point per ef_search."""
    width, height, edge = 420, 340, 46
    points = [point for found in curves.values() for point in found]
    if not points:
        return ""
    slow = 1.1 * float(max(point["p95_ms"] for point in points))
    low = float(min(0.9, *(point["recall"] for point in points))) - 0.04

    def x(value: float) -> float:
        return edge + (width - edge - 20) * value / slow

    def y(value: float) -> float:
        return height - edge - (height - edge - 16) * (value - low) / (1.005 - low)

    parts = [
        _line(edge, height - edge, width - 10, height - edge, INK, 1),
        _line(edge, height - edge, edge, 12, INK, 1),
        _line(edge, y(target), width - 10, y(target), FAINT, 1, dash="4 3"),
        _text(width - 12, y(target) + 13, f"index target {target:g}", "end", 10, FAINT),
        _text((edge + width) / 2, height - 6, "p95 of a search, ms", "middle", 12, INK),
        f'<text x="12" y="{height / 2:.0f}" font-size="12" fill="{INK}" text-anchor="middle" '
        f'transform="rotate(-90 12 {height / 2:.0f})">recall against exact search</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        value = slow * share
        parts.append(_text(x(value), height - edge + 15, f"{value:.2g}", "middle", 10, FAINT))
    for value in (low + 0.04, 1.0):
        parts.append(_text(edge - 5, y(value) + 3, f"{value:.2f}", "end", 10, FAINT))
    for side, colour, above in (("source", SOURCE, 14), ("target", TARGET, -8)):
        line = sorted(curves.get(side, ()), key=lambda point: point["ef_search"])
        path = " ".join(f"{x(point['p95_ms']):.1f},{y(point['recall']):.1f}" for point in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in line:
            at, to = x(point["p95_ms"]), y(point["recall"])
            parts.append(
                f'<circle cx="{at:.1f}" cy="{to:.1f}" r="4" fill="{colour}"><title>ef_search '
                f"{point['ef_search']}: recall {point['recall']:.3f}, p50 {point['p50_ms']:.2f} ms, "
                f"p95 {point['p95_ms']:.2f} ms</title></circle>"
            )
        for point in (line[0], line[-1]) if line else ():
            parts.append(
                _text(
                    x(point["p95_ms"]),
                    y(point["recall"]) + above,
                    f"ef {point['ef_search']}",
                    "middle",
                    10,
                    colour,
                )
            )
        legend = f"{side}, now ef {now.get(side, 0)}"
        under = height - edge - (28 if side == "source" else 12)
        parts.append(_text(edge + 10, under, legend, "start", 12, colour, bold=True))
    return _svg(width, height, parts, "recall against latency")


def _ticks(reach: float) -> list[float]:
    step = next((s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if reach / s <= 4), 1.0)
    count = math.floor(reach / step + 1e-9)
    return [step * number for number in range(-count, count + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{dashes}/>'
    )


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}" fill="{colour}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, size: int, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{weight}>'
        f"{escape(text)}</text>"
    )


def _svg(width: int, height: int, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(label)}" font-family="system-ui, sans-serif">{"".join(parts)}</svg>'
    )
