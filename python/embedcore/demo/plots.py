"""The report's plots as inline SVG: recall, weights and latency over the migration, phases shaded."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from embedcore.demo.summary import ALL, OUTAGE, Check, LatencyRow, QueryRecord, Sample, live_recall

_COLOURS: Final = {
    "search": "#1b6ca8",
    "recsys": "#c0582b",
    "ads": "#3d8b4f",
    "dedup": "#8757a8",
}
_SHADES: Final = ("#f3f4f6", "#e4e7ec")
_WIDTH, _HEIGHT = 9.0, 3.2
# A phase shorter than this share of the whole has no room for its name.
_NAMED: Final = 0.06
_LIVE_BUCKETS: Final = 25


def available() -> bool:
    """Whether matplotlib is installed; without it the report has its tables alone."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def colour(consumer: str) -> str:
    return _COLOURS.get(consumer, "#555555")


def _svg(draw: Any, height: float = _HEIGHT) -> str:
    """The SVG element of a figure that ``draw(axes)`` fills."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text (small, searchable); a fixed salt gives the same file for the same figures.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "embedcore", "font.size": 9}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def _phases(axes: Any, samples: Sequence[Sample], origin: float) -> None:
    """Shades the phases and names them on top."""
    starts = [s for p, s in zip([None, *samples], samples, strict=False) if p is None or p.phase != s.phase]
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else samples[-1]
        left, right = start.real - origin, end.real - origin
        if right - left <= 0:
            continue
        axes.axvspan(left, right, color=_SHADES[number % 2], lw=0, zorder=0)
        if right - left > _NAMED * (samples[-1].real - starts[0].real):
            top = axes.get_xaxis_transform()
            middle = (left + right) / 2
            axes.text(middle, 1.02, start.phase, transform=top, ha="center", fontsize=7, color="#444")


def recall_plot(
    records: Sequence[QueryRecord],
    samples: Sequence[Sample],
    checks: Sequence[Check],
    before: Mapping[str, float],
    after: Mapping[str, float],
) -> str:
    """Per consumer: dotted the golden set on the source and on the target, dots the periodic checks of the
    blend, faint the answers of the live traffic."""

    def draw(axes: Any) -> None:
        origin = min((r.at for r in records), default=0.0)
        end = max((r.at for r in records), default=1.0) - origin
        if samples:
            _phases(axes, samples, origin)
        for name, points in live_recall(records, _LIVE_BUCKETS).items():
            at, found = [p[0] - origin for p in points], [p[1] for p in points]
            axes.plot(at, found, color=colour(name), alpha=0.3, lw=1)
            for value, place in ((before.get(name), (0, 0.15)), (after.get(name), (0.85, 1))):
                if value is not None:
                    axes.hlines(value, *(end * x for x in place), color=colour(name), ls=":", lw=1.6)
            own = [check for check in checks if check.consumer == name]
            if samples:
                when = np.interp([c.at for c in own], [s.now for s in samples], [s.real for s in samples])
                values = [c.metric for c in own]
                axes.plot(when - origin, values, ".", color=colour(name), ms=4, label=name)
        axes.set_xlabel("seconds of the machine")
        axes.set_ylabel("relevant items found")
        axes.legend(ncols=4, frameon=False, loc="lower center", markerscale=3)

    return _svg(draw, 3.8)


def weight_plot(samples: Sequence[Sample], origin: float) -> str:
    """Weight of the target per consumer, and coverage."""

    def draw(axes: Any) -> None:
        if not samples:
            return
        _phases(axes, samples, origin)
        at = [s.real - origin for s in samples]
        axes.fill_between(
            at, [s.coverage for s in samples], color="#9aa3ad", alpha=0.35, label="coverage", lw=0
        )
        names = sorted({name for s in samples for name in s.weights})
        for number, name in enumerate(names):
            # Thinner lines on wider ones, so that consumers which move together can all be seen.
            values = [s.weights.get(name, 0.0) for s in samples]
            width = 2.0 * (len(names) - number)
            axes.step(at, values, where="post", color=colour(name), label=name, lw=width)
        axes.set_ylim(-0.02, 1.06)
        axes.set_xlabel("seconds of the machine")
        axes.set_ylabel("weight of the target")
        axes.legend(ncols=5, frameon=False, loc="lower right")

    return _svg(draw)


def latency_plot(rows: Iterable[LatencyRow]) -> str:
    """p50, p95 and p99 per phase, each consumer a group of bars."""
    shown = [row for row in rows if row.consumer != ALL and row.phase != OUTAGE and row.p50 is not None]
    phases = list(dict.fromkeys(row.phase for row in shown))
    consumers = sorted({row.consumer for row in shown})

    def draw(axes: Any) -> None:
        width = 0.8 / max(1, len(consumers))
        for number, name in enumerate(consumers):
            found = {row.phase: row for row in shown if row.consumer == name}
            at = np.arange(len(phases)) + (number - (len(consumers) - 1) / 2) * width
            for quantile, alpha in (("p99", 0.3), ("p95", 0.55), ("p50", 1.0)):
                heights = [getattr(found[p], quantile) if p in found else 0.0 for p in phases]
                label = name if quantile == "p50" else None
                axes.bar(at, heights, width * 0.9, color=colour(name), alpha=alpha, label=label)
        axes.set_xticks(range(len(phases)), phases)
        axes.set_ylabel("ms (p50 dark, p95, p99 light)")
        axes.axhline(50, color="#888", lw=0.8, ls="--")
        axes.legend(ncols=4, frameon=False, loc="upper left")

    return _svg(draw)
