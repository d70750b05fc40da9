"""A sweep as plain values: what the JSON holds, and what tables and plots are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench import engines
from bench.datasets import Dataset
from bench.ratios import NOT_MEASURED, Ratio, ratio, spread
from bench.sweep import Plan, Point, Sweep

REFERENCE = "hnswlib"
# Above these an interactive caller notices that no index is there.
EXACT_LIMITS_MS = (30.0, 50.0)


def document(machine: Mapping[str, Any], data: Dataset, plan: Plan, sweep: Sweep) -> dict[str, Any]:
    """The whole result. ``ratios`` has a row for every embedcore engine and target, measured or not."""
    return {
        "schema": "embedcore-bench-ann/1",
        "machine": dict(machine),
        "data": data.describe(),
        "plan": asdict(plan),
        "engines": sweep.engines,
        "points": [_plain(point) for point in sweep.points],
        "ratios": _ratios(plan, sweep),
        "exact": _exact(data, sweep.points),
        "curve": [_plain(point) for point in sweep.curve],
    }


def _plain(point: Point) -> dict[str, Any]:
    row = asdict(point)
    if point.passes:
        row["queries_per_cpu_s"] = asdict(spread(point.per_cpu_s))
        row["queries_per_wall_s"] = asdict(spread([one.queries / one.wall_s for one in point.passes]))
        for name in ("p50_us", "p95_us", "p99_us"):
            values = [getattr(one, name) for one in point.passes if getattr(one, name) is not None]
            row[name] = spread(values).median if values else None
    return row


def _ratios(plan: Plan, sweep: Sweep) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    mine = [name for name in plan.names if name in engines.OWN]
    others = [name for name in plan.names if name not in engines.OWN and name not in engines.EXACT]
    for k in plan.ks:
        for mode in plan.modes:
            for level in plan.levels:
                rates = {
                    point.engine: point.per_cpu_s
                    for point in sweep.points
                    if (point.k, point.mode, point.level) == (k, mode, level) and point.passes
                }
                best = _best_of(others, rates)
                targets: Sequence[tuple[str, str | None]] = [(REFERENCE, REFERENCE), ("best peer", best)]
                for name in mine:
                    for role, target in targets:
                        found = ratio(rates.get(name), rates.get(target) if target else None)
                        rows.append(
                            {
                                "k": k,
                                "mode": mode,
                                "level": level,
                                "engine": name,
                                "to": role,
                                "peer": target,
                                **(asdict(found) if isinstance(found, Ratio) else {"status": found}),
                            }
                        )
    return rows


def _best_of(names: Sequence[str], rates: Mapping[str, Sequence[float]]) -> str | None:
    measured = [name for name in names if name in rates]
    return max(measured, key=lambda name: spread(rates[name]).median, default=None)


def _exact(data: Dataset, points: Sequence[Point]) -> list[dict[str, Any]]:
    """CPU milliseconds of a single query, and the number of items at which it would cross a limit: the time
    grows linearly with the items once they are past the caches."""
    rows: list[dict[str, Any]] = []
    for name in engines.EXACT:
        times = [
            1e3 * one.cpu_s / one.queries
            for point in points
            if point.engine == name and point.mode == "single"
            for one in point.passes
        ]
        if not times:
            rows.append({"engine": name, "status": NOT_MEASURED})
            continue
        found = spread(times)
        rows.append(
            {
                "engine": name,
                "ms_per_query": asdict(found),
                "items_at": {
                    f"{limit:g} ms": round(data.n * limit / found.median) for limit in EXACT_LIMITS_MS
                },
            }
        )
    return rows
