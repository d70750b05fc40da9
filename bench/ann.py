"""``python -m bench ann``: data, sweep, tables, files."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import datasets, engines, machine, plots, summary, tables
from bench.sweep import Plan, Sweep
from bench.sweep import run as sweep

_CURVE = (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640)


def plan_of(
    names: Sequence[str] | None,
    ks: Sequence[int],
    levels: Sequence[float],
    *,
    curve: bool,
    yardstick: bool = True,
    **rest: Any,
) -> Plan:
    """``yardstick``: exact search takes part whatever was asked for: does an index pay at all.

    Raises ValueError for a name, k or level that cannot be.
    """
    chosen = tuple(dict.fromkeys(names or engines.DEFAULT))
    unknown = [name for name in chosen if name not in engines.ENGINES]
    if unknown:
        raise ValueError(f"no engine is called {', '.join(unknown)}; there are {', '.join(engines.DEFAULT)}")
    if not ks or not all(1 <= k <= datasets.DEPTH for k in ks):
        raise ValueError(f"k must be 1 to {datasets.DEPTH}, got {list(ks)}")
    if not levels or not all(0 < level <= 1 for level in levels):
        raise ValueError(f"levels of recall are above 0 and at most 1, got {list(levels)}")
    if yardstick:
        chosen = (*chosen, *(name for name in engines.EXACT if name not in chosen))
    return Plan(chosen, tuple(ks), tuple(sorted(levels)), curve=_CURVE if curve else (), **rest)


def run(wanted: datasets.Wanted, plan: Plan, console: Console, out: Path | None) -> dict[str, Any]:
    """The result document, shown and written."""
    described = machine.describe()  # before the load of the run itself
    console.print(f"preparing {wanted.name} and its exact neighbours")
    data = datasets.load(wanted)
    if max(plan.ks) > data.n:
        raise ValueError(f"k is {max(plan.ks)}, and there are {data.n} items")
    date = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    folder = out or machine.ROOT / "bench" / "results" / f"{data.name}-{date}"
    folder.mkdir(parents=True, exist_ok=True)

    def keep(so_far: Sweep) -> None:
        plots.write_json(summary.document(described, data, plan, so_far), folder)

    done = sweep(
        data,
        plan,
        lambda text: console.print(text, style="dim", soft_wrap=True),
        keep,
    )
    result = summary.document(described, data, plan, done)
    tables.show(result, console)
    for path in plots.write(result, folder):
        console.print(f"wrote {path}", soft_wrap=True)
    return result
