"""``python -m bench overhead``: what one call from Python costs beside the search in it.

The same queries are asked twice, in turns of some thousands: as callers do, timed around the call, and with
statistics, which hold the nanoseconds that the native search took by itself. The difference of the medians is
the way in and out: arguments, checks, the GIL, the result arrays. Not one query twice in a row: the second
search would find everything in the nearest cache.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import embedcore
from bench import machine
from bench.results_file import write_result

_ITEMS = 1_000  # the smaller the index, the steadier the time of a search
_EF = 16


def run(dims: list[int], calls: int, rounds: int, console: Console, out: Path | None) -> dict[str, Any]:
    """The result document, shown and written."""
    rows = [_measure(dim, calls, rounds) for dim in dims]
    result = {"schema": "embedcore-bench-overhead/1", "machine": machine.describe(), "rows": rows}
    console.print(machine.line(result["machine"]), style="dim", soft_wrap=True)
    table = Table(title="Microseconds of one query, median of rounds", title_justify="left")
    for name in ("dimensions", "call", "native search", "beside it", "least", "most"):
        table.add_column(name, justify="right")
    for row in rows:
        beside = row["overhead_us"]
        values = (row["call_us"], row["native_us"], beside["median"], beside["least"], beside["most"])
        table.add_row(str(row["dim"]), *(f"{value:.2f}" for value in values))
    console.print(table)
    write_result("overhead", result, out, console)
    return result


def _measure(dim: int, calls: int, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(dim)
    base = rng.standard_normal((_ITEMS, dim), dtype=np.float32)
    queries = rng.standard_normal((64, dim), dtype=np.float32)
    index = embedcore.Index(dim=dim)
    index.add(np.arange(_ITEMS), base, threads=1)
    whole, native = np.empty(calls), np.empty(calls)
    medians = []
    for _ in range(rounds + 1):  # the first one warms up
        for i in range(calls):
            query = queries[i % len(queries)]
            started = time.perf_counter_ns()
            index.search(query, k=10, ef_search=_EF)
            whole[i] = time.perf_counter_ns() - started
        for i in range(calls):
            query = queries[i % len(queries)]
            stats = index.search(query, k=10, ef_search=_EF, stats=True).stats
            assert stats is not None
            native[i] = np.asarray(stats["nanoseconds"]).item()
        medians.append((float(np.median(whole)) / 1e3, float(np.median(native)) / 1e3))
    overheads = [call - search for call, search in medians[1:]]
    call, search = np.median(medians[1:], axis=0)
    return {
        "dim": dim,
        "call_us": float(call),
        "native_us": float(search),
        "overhead_us": {
            "median": float(np.median(overheads)),
            "least": min(overheads),
            "most": max(overheads),
        },
    }
