"""``python -m bench dualwrite``: what it costs that a write goes to two indexes through one stream.

Two questions. How many empty operations the stream takes from one producer: a native program, built by the
command, in which lanes do nothing with what they read. And what a dual write of real vectors costs on one
core against adding them to the two indexes one after the other: CPU time of the whole process, in turns.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import embedcore
from bench import datasets, machine
from bench.native_build import build
from bench.ratios import order_of_round, ratio, spread
from bench.results_file import write_result

ASKED_RATE = 2_000_000
ASKED_RATIO = 1.1


def run(
    wanted: datasets.Wanted, operations: int, rounds: int, batch: int, console: Console, out: Path | None
) -> dict[str, Any]:
    """The result document, shown and written."""
    described = machine.describe()
    console.print("empty operations: building and running bench/native", style="dim")
    empty = empty_operations(operations, rounds)
    data = datasets.load(wanted)
    console.print(f"dual write of {data.n:,} vectors, {rounds} rounds", style="dim")
    real = dual_write(np.asarray(data.base), data.metric, rounds, batch)
    result = {
        "schema": "embedcore-bench-dualwrite/1",
        "machine": described,
        "data": data.describe(),
        "plan": {"operations": operations, "rounds": rounds, "batch": batch},
        "empty": empty,
        "dual_write": real,
    }
    _show(result, console)
    write_result("dualwrite", result, out, console)
    return result


def empty_operations(operations: int, rounds: int, binary: Path | None = None) -> list[dict[str, Any]]:
    """Rates per case over the rounds. Builds the program where none is given. Raises BuildError."""
    if binary is None:
        binary = build("bench_dualwrite")
    printed = subprocess.run(
        [str(binary), str(operations), str(rounds)], check=True, capture_output=True, text=True
    ).stdout
    rows = [json.loads(line) for line in printed.splitlines()]
    cases = dict.fromkeys((row["case"], row["lanes"], row["batch"]) for row in rows)
    return [
        {
            "case": case,
            "lanes": lanes,
            "batch": batch,
            "applied_per_s": asdict(
                spread(
                    [
                        row["applied_per_s"]
                        for row in rows
                        if (row["case"], row["lanes"], row["batch"]) == (case, lanes, batch)
                    ]
                )
            ),
        }
        for case, lanes, batch in cases
    ]


def dual_write(vectors: datasets.Floats, metric: str, rounds: int, batch: int) -> dict[str, Any]:
    """CPU seconds of each way and ratios per round, on one core, the ways in turn.

    "at once": each index gets all in one call. "in batches": each gets the batches that the dual write gets;
    an index that grows trains its codes again and again, which is no cost of the stream.
    """
    ids = np.arange(len(vectors))
    dim = vectors.shape[1]
    starts = range(0, len(ids), batch)

    def at_once() -> None:
        for index in _two(dim, metric):
            index.add(ids, vectors, threads=1)

    def in_batches() -> None:
        for index in _two(dim, metric):
            for at in starts:
                index.add(ids[at : at + batch], vectors[at : at + batch], threads=1)

    def dual() -> None:
        with embedcore.DualWriter(_two(dim, metric)) as writer:
            for at in starts:
                some = vectors[at : at + batch]
                writer.upsert(ids[at : at + batch], [some, some])

    ways = {"at once": at_once, "in batches": in_batches, "dual": dual}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        for number in range(rounds):
            for name in order_of_round(list(ways), number):
                seconds[name].append(_cpu_seconds(ways[name]))
    finally:
        os.sched_setaffinity(0, usable)
    return {
        "cpu_s": {name: asdict(spread(values)) for name, values in seconds.items()},
        "ratios": {name: _ratio(seconds["dual"], seconds[name]) for name in ("at once", "in batches")},
    }


def _ratio(mine: list[float], theirs: list[float]) -> dict[str, float]:
    found = ratio(mine, theirs)
    assert not isinstance(found, str)
    # Seconds: what disturbs a round makes it longer, so the best round is the shortest.
    return {**asdict(found), "best": min(mine) / min(theirs)}


def _two(dim: int, metric: str) -> list[embedcore.Index]:
    return [
        embedcore.Index(dim, "ip" if metric == "ip" else "l2" if metric == "l2" else "cosine") for _ in "ab"
    ]


def _cpu_seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _show(result: dict[str, Any], console: Console) -> None:
    console.print(machine.line(result["machine"]), style="dim", soft_wrap=True)
    table = Table(title="Empty operations, one producer: millions applied per second", title_justify="left")
    for name in ("through", "lanes", "a call", "median", "least", "most", "asked"):
        table.add_column(name, justify="left" if name == "through" else "right")
    for row in result["empty"]:
        rates = [f"{row['applied_per_s'][key] / 1e6:.1f}" for key in ("median", "least", "most")]
        table.add_row(row["case"], str(row["lanes"]), str(row["batch"]), *rates, f"{ASKED_RATE / 1e6:.0f}")
    console.print(table)
    data, real = result["data"], result["dual_write"]
    table = Table(
        title=f"{data['name']}, {data['n']:,} x {data['dim']} into two indexes, one core: CPU seconds",
        title_justify="left",
    )
    for name in ("", "median", "least", "most", "best", "asked"):
        table.add_column(name, justify="right" if name else "left")
    shown = {"at once": "two adds of all", "in batches": "two adds in batches", "dual": "dual write"}
    for key, name in shown.items():
        table.add_row(name, *(f"{real['cpu_s'][key][part]:.2f}" for part in ("median", "least", "most")))
    for key, found in real["ratios"].items():
        parts = (f"{found[part]:.3f}" for part in ("median", "least", "most", "best"))
        table.add_row(f"dual write / {shown[key]}", *parts, f"<= {ASKED_RATIO}")
    console.print(table)
