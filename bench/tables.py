"""The result on the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import machine

Row = Mapping[str, Any]


def show(result: Row, console: Console) -> None:
    data = result["data"]
    title = f"{data['name']}: {data['n']:,} x {data['dim']}, {data['metric']}, {data['queries']:,} queries"
    console.print(f"\n[bold]{title}[/bold]; {escape(data['origin'])}", soft_wrap=True)
    console.print(machine.line(result["machine"]), style="dim", soft_wrap=True)
    console.print(_builds(result))
    for name, row in result["engines"].items():
        if row["status"] != "measured":
            console.print(f"{name}: {row['status']}: {escape(row['reason'])}", style="dim", soft_wrap=True)
    for k in result["plan"]["ks"]:
        for mode in result["plan"]["modes"]:
            console.print(_rates(result, k, mode))
            if mode == "single":
                console.print(_latencies(result, k))
    for role in ("hnswlib", "best peer"):
        console.print(_ratios(result, role))
    for line in _exact(result):
        console.print(line, soft_wrap=True)


def _builds(result: Row) -> Table:
    table = _table(
        "Build by one thread; resident memory beside the caller's array, and as the library counts it",
        ["engine", "version"],
        ["CPU s", "recall@10 at ef 100", "B/vector", "own count"],
    )
    table.add_column("settings", style="dim")
    for name, row in result["engines"].items():
        if "build" not in row:
            continue
        built, recall = row["build"], row["recall_at_ef_100"]
        own = built["memory_bytes"]
        table.add_row(
            name,
            row["version"],
            f"{built['cpu_s']:.1f}",
            "exact" if recall is None else f"{recall:.4f}",
            f"{row['bytes_per_vector']:,.0f}",
            "" if own is None else f"{own / result['data']['n']:,.0f}",
            built["settings"],
        )
    return table


def _rates(result: Row, k: int, mode: str) -> Table:
    call = "one call per query" if mode == "single" else "one call for all queries"
    table = _table(f"Queries per CPU second at recall@{k}, {call}, one thread (spread of rounds)", ["engine"])
    for level in result["plan"]["levels"]:
        table.add_column(f"{level:g}", justify="right", no_wrap=True)
        table.add_column("ef: recall", justify="right", style="dim", no_wrap=True)
    for name, at_level in _by_engine(result, k, mode):
        cells: list[str] = []
        for level in result["plan"]["levels"]:
            cells += _rate(at_level.get(level))
        table.add_row(name, *cells)
    return table


def _rate(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "not measured", ""
    if row["ef"] is None:
        return "never", f"best {row['recall_tuned']:.4f}"
    if not row["passes"]:
        return "failed", ""
    rate = row["queries_per_cpu_s"]
    below, above = rate["least"] / rate["median"] - 1, rate["most"] / rate["median"] - 1
    return f"{rate['median']:,.0f} ({below:+.0%} {above:+.0%})", f"{row['ef']}: {row['recall']:.4f}"


def _latencies(result: Row, k: int) -> Table:
    table = _table(f"Latency of a call, k = {k}, wall clock: p50 / p95 / p99 in microseconds", ["engine"])
    for level in result["plan"]["levels"]:
        table.add_column(f"{level:g}", justify="right", no_wrap=True)
    for name, at_level in _by_engine(result, k, "single"):
        rows = [at_level.get(level) for level in result["plan"]["levels"]]
        cells = [
            f"{row['p50_us']:,.0f} / {row['p95_us']:,.0f} / {row['p99_us']:,.0f}"
            if row and row["passes"]
            else ""
            for row in rows
        ]
        table.add_row(name, *cells)
    return table


def _ratios(result: Row, role: str) -> Table:
    table = _table(
        f"Queries per CPU second over {role}'s, ratio per round: median (least to most), best over best",
        ["embedcore as", "mode"],
        ["k"],
    )
    levels = result["plan"]["levels"]
    for level in levels:
        table.add_column(f"{level:g}", justify="right")
    cells: dict[tuple[str, str, str], dict[float, str]] = {}
    for row in result["ratios"]:
        if row["to"] == role and "build" in result["engines"][row["engine"]]:
            key = (row["engine"], row["mode"], str(row["k"]))
            cells.setdefault(key, {})[row["level"]] = _ratio(row)
    for key, by_level in cells.items():
        table.add_row(*key, *(by_level[level] for level in levels))
    return table


def _ratio(row: Row) -> str:
    if "median" not in row:
        return str(row["status"])
    named = "" if row["to"] == row["peer"] else f" {row['peer']}"
    return f"{row['median']:.2f} ({row['least']:.2f} to {row['most']:.2f}), {row['best']:.2f}{named}"


def _exact(result: Row) -> Iterator[str]:
    for row in result["exact"]:
        if "items_at" not in row:
            yield f"{row['engine']}: {row['status']}"
            continue
        limits = ", ".join(f"{limit} at {items:,} items" for limit, items in row["items_at"].items())
        yield (
            f"{row['engine']}: {row['ms_per_query']['median']:.2f} ms of CPU for one query of "
            f"{result['data']['n']:,} items; by that, {limits}"
        )


def _by_engine(result: Row, k: int, mode: str) -> Iterator[tuple[str, dict[float, Row]]]:
    for name in result["engines"]:
        rows = [row for row in result["points"] if (row["engine"], row["k"], row["mode"]) == (name, k, mode)]
        if rows:
            yield name, {row["level"]: row for row in rows}


def _table(title: str, words: list[str], numbers: list[str] | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers or []:
        table.add_column(name, justify="right", no_wrap=True)
    return table
