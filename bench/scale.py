"""``python -m bench scale``: the rate at one level of recall as the number of items grows, and its slope.

HNSW promises logarithmic work; caches and TLBs decide what is left of it. The slope is that of log rate over
log items: -0.3 means that ten times the items halve the rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import datasets, machine
from bench.ratios import Ratio, ratio, spread
from bench.results_file import write_result
from bench.summary import REFERENCE
from bench.sweep import Plan
from bench.sweep import run as sweep


def run(
    sizes: Sequence[int], plan: Plan, wanted: datasets.Wanted, console: Console, out: Path | None
) -> dict[str, Any]:
    """The result document, shown and written. One sweep of the plan (one k, one level) per size."""
    described = machine.describe()
    rows: list[dict[str, Any]] = []
    for n in sorted(sizes):
        console.print(f"{wanted.name}, {n:,} items", soft_wrap=True)
        data = datasets.load(
            datasets.Wanted(wanted.name, n, wanted.dim, wanted.metric, wanted.queries, depth=10)
        )
        done = sweep(data, plan, lambda text: console.print(text, style="dim", soft_wrap=True))
        rates = {(one.engine, one.mode): one.per_cpu_s for one in done.points if one.passes}
        for (name, mode), values in rates.items():
            found = ratio(values, rates.get((REFERENCE, mode)))
            rows.append(
                {
                    "n": n,
                    "engine": name,
                    "mode": mode,
                    "queries_per_cpu_s": asdict(spread(values)),
                    "to_hnswlib": asdict(found) if isinstance(found, Ratio) else found,
                    "ef": next(one.ef for one in done.points if (one.engine, one.mode) == (name, mode)),
                    "engine_row": done.engines[name],
                }
            )
    slopes = _slopes(rows)
    result = {
        "schema": "embedcore-bench-scale/1",
        "machine": described,
        "data": {"name": wanted.name, "dim": wanted.dim, "metric": wanted.metric},
        "level": plan.levels[0],
        "rows": rows,
        "slopes": slopes,
    }
    _show(result, console)
    write_result("scale", result, out, console)
    return result


def _slopes(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    slopes = []
    for name, mode in dict.fromkeys((row["engine"], row["mode"]) for row in rows):
        mine = [row for row in rows if (row["engine"], row["mode"]) == (name, mode)]
        if len(mine) < 2:
            continue
        sizes = np.log([row["n"] for row in mine])
        rates = np.log([row["queries_per_cpu_s"]["median"] for row in mine])
        slopes.append({"engine": name, "mode": mode, "slope": float(np.polyfit(sizes, rates, 1)[0])})
    return slopes


def _show(result: dict[str, Any], console: Console) -> None:
    console.print(machine.line(result["machine"]), style="dim", soft_wrap=True)
    table = Table(
        title=f"Queries per CPU second at recall@10 {result['level']:g}, one thread", title_justify="left"
    )
    for name in ("items", "engine", "mode", "rate", "over hnswlib", "ef", "build CPU s", "B/vector"):
        table.add_column(name, justify="left" if name in ("engine", "mode") else "right")
    for row in result["rows"]:
        over = row["to_hnswlib"]
        table.add_row(
            f"{row['n']:,}",
            row["engine"],
            row["mode"],
            f"{row['queries_per_cpu_s']['median']:,.0f}",
            over
            if isinstance(over, str)
            else f"{over['median']:.2f} ({over['least']:.2f} to {over['most']:.2f})",
            str(row["ef"]),
            f"{row['engine_row']['build']['cpu_s']:.1f}",
            f"{row['engine_row']['bytes_per_vector']:,.0f}",
        )
    console.print(table)
    for row in result["slopes"]:
        console.print(f"{row['engine']}, {row['mode']}: rate falls as items to the power {row['slope']:+.2f}")
