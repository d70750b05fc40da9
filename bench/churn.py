"""``python -m bench churn``: an index that is written, deleted from and compacted, against a fresh one.

links       searches over links that are atomic words, against the same graph searched by a build in
            which they are plain
beside      latency of searches while a thread inserts or compacts, in the same index and in another
tombstones  30% deleted: recall before compaction, recall, rate, memory and CPU time after it
turnover    every item replaced or deleted and added again, ten times over
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import embedcore
from bench import datasets, machine
from bench.native_build import build
from bench.ratios import ratio, spread
from bench.results_file import write_result
from bench.truth import exact_neighbours

PARTS: Final = ("links", "beside", "tombstones", "turnover")
SEED: Final = 20_261_127
K: Final = 10
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

ASKED: Final = {
    "links": ">= 0.98",
    "p99 insert": "<= 1.2",
    "p99 compact": "<= 1.2",
    "recall lost, 30% dead": "<= 0.005",
    "recall lost, compacted": "<= 0.002",
    "rate, compacted / fresh": ">= 0.97",
    "memory, compacted / fresh": "<= 1.1",
    "CPU, compact / rebuild": "<= 0.25",
    "recall lost, turned over": "<= 0.005",
}


def run(
    wanted: datasets.Wanted,
    parts: Sequence[str],
    ef: int,
    rounds: int,
    turnovers: int,
    console: Console,
    out: Path | None,
) -> dict[str, Any]:
    """The result document, shown and written."""
    data = datasets.load(wanted)
    result: dict[str, Any] = {
        "schema": "embedcore-bench-churn/1",
        "machine": machine.describe(),
        "data": data.describe(),
        "plan": {"parts": list(parts), "ef": ef, "rounds": rounds, "turnovers": turnovers, "seed": SEED},
    }
    console.print(machine.line(result["machine"]), style="dim", soft_wrap=True)
    make = {
        "links": lambda: links(data, ef, rounds),
        "beside": lambda: beside(data, ef, rounds),
        "tombstones": lambda: tombstones(data, ef, rounds),
        "turnover": lambda: turnover(data, ef, turnovers, console),
    }
    for part in parts:
        console.print(f"{part}: {data.n:,} x {data.dim}, ef {ef}", style="dim")
        result[part] = make[part]()
        _show(part, result[part], console)
    write_result("churn", result, out, console)
    return result


def links(data: datasets.Dataset, ef: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of the same searches over the same saved graph by the two builds, in turns."""
    binaries = {name: build("bench_links", plain_links=name == "plain") for name in ("atomic", "plain")}
    seconds: dict[str, list[float]] = {name: [] for name in binaries}
    with tempfile.TemporaryDirectory() as folder:
        index = _filled(data, np.arange(data.n))
        index.save(f"{folder}/index")
        np.asarray(data.queries).tofile(f"{folder}/queries")
        for number in range(rounds):
            order = list(binaries) if number % 2 == 0 else list(binaries)[::-1]
            for name in order:
                printed = subprocess.run(
                    [str(binaries[name]), f"{folder}/index", f"{folder}/queries", str(ef)],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
                seconds[name].append(float(printed))
    found = ratio(seconds["plain"], seconds["atomic"])
    assert not isinstance(found, str)
    best = min(seconds["plain"]) / min(seconds["atomic"])
    return {
        "cpu_s": {n: asdict(spread(s)) for n, s in seconds.items()},
        "links": {**asdict(found), "best": best},
    }


def beside(data: datasets.Dataset, ef: int, rounds: int) -> dict[str, Any]:
    """Percentiles per round and case of bench/native/beside.cpp, and the ratios of p99, same to other."""
    binary = build("bench_beside")
    with tempfile.TemporaryDirectory() as folder:
        np.asarray(data.base).tofile(f"{folder}/items")
        np.asarray(data.queries).tofile(f"{folder}/queries")
        printed = subprocess.run(
            [
                str(binary),
                f"{folder}/items",
                f"{folder}/queries",
                str(data.dim),
                data.metric,
                str(min(data.n, 50_000)),
                str(ef),
                "2",
                str(rounds),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    rows = [json.loads(line) for line in printed.splitlines()]
    found: dict[str, Any] = {"rows": rows}
    for work in ("insert", "compact"):
        p99 = {
            on: [r["p99_us"] for r in rows if r["work"] == work and r["on"] == on] for on in ("same", "other")
        }
        paired = ratio(p99["same"], p99["other"])
        found[f"p99 {work}"] = paired if isinstance(paired, str) else asdict(paired)
        found[f"{work}_us"] = {on: asdict(spread(values)) for on, values in p99.items() if values}
    return found


def tombstones(data: datasets.Dataset, ef: int, rounds: int) -> dict[str, Any]:
    """One index loses 30% of its items; a fresh one is built of what is left. Recall at the same ef."""
    rng = np.random.default_rng(SEED)
    dead = np.sort(rng.permutation(data.n)[: data.n * 3 // 10])
    live = np.setdiff1d(np.arange(data.n), dead)
    truth = live[exact_neighbours(np.asarray(data.base)[live], np.asarray(data.queries), K, data.metric)]
    churned = _filled(data, np.arange(data.n))
    start = time.process_time()
    fresh = _filled(data, live)
    rebuild = time.process_time() - start
    churned.remove(dead)
    found: dict[str, Any] = {
        "fresh": _recall(fresh, data, truth, ef),
        "dead": _recall(churned, data, truth, ef),
    }
    start = time.process_time()
    churned.compact()
    churned.relocate()
    found["cpu_s"] = {"rebuild": rebuild, "compact": time.process_time() - start}
    churned.relocate()  # what the first one freed goes back once its readers have left
    found["compacted"] = _recall(churned, data, truth, ef)
    found["recall lost, 30% dead"] = found["fresh"] - found["dead"]
    found["recall lost, compacted"] = found["fresh"] - found["compacted"]
    seconds: dict[str, list[float]] = {"fresh": [], "compacted": []}
    for number in range(rounds):
        pairs = [("fresh", fresh), ("compacted", churned)]
        for name, index in pairs if number % 2 == 0 else pairs[::-1]:
            seconds[name].append(_cpu_of_searches(index, data, ef))
    rate = ratio(seconds["fresh"], seconds["compacted"])
    assert not isinstance(rate, str)
    found["rate, compacted / fresh"] = {
        **asdict(rate),
        "best": min(seconds["fresh"]) / min(seconds["compacted"]),
    }
    found["memory, compacted / fresh"] = churned.memory_bytes / fresh.memory_bytes
    found["CPU, compact / rebuild"] = found["cpu_s"]["compact"] / rebuild
    found["problems"] = churned.check()
    return found


def turnover(data: datasets.Dataset, ef: int, turnovers: int, console: Console) -> dict[str, Any]:
    """Half of the corpus in the index. In each turnover every item goes: half of them are replaced by
    another's vector under the same id, half are deleted and other ids come; compacted at 10% dead."""
    rng = np.random.default_rng(SEED)
    base = np.asarray(data.base)
    held = data.n // 2
    vector_of = {i: i for i in range(held)}  # id -> row of base
    index = _filled(data, np.arange(held))
    first = index.memory_bytes
    next_id = held
    most = 0
    start = time.process_time()
    for number in range(turnovers):
        items = rng.permutation(np.fromiter(vector_of, np.int64))
        for some in np.array_split(items, 20):
            rows = rng.integers(0, data.n, len(some))
            replaced, gone = some[: len(some) // 2], some[len(some) // 2 :]
            index.remove(gone)
            come = np.arange(next_id, next_id + len(gone))
            next_id += len(gone)
            for i in gone:
                del vector_of[int(i)]
            ids = np.concatenate([replaced, come])
            vector_of.update(zip(ids.tolist(), rows.tolist(), strict=True))
            index.add(ids, base[rows])
            if index.tombstone_rate > 0.1:
                index.compact()
            most = max(most, index.memory_bytes)
        console.print(
            f"  {number + 1} of {turnovers}: {len(index):,} items, {most / first:.2f} x memory", style="dim"
        )
    churn_s = time.process_time() - start
    index.compact()
    index.relocate()
    index.relocate()
    ids = np.fromiter(vector_of, np.int64)
    rows = np.fromiter(vector_of.values(), np.int64)
    truth = ids[exact_neighbours(base[rows], np.asarray(data.queries), K, data.metric)]
    fresh = _index(data)
    fresh.add(ids, base[rows])
    exact = base[rows]
    position = {int(i): n for n, i in enumerate(ids)}
    found = {
        "fresh": _recall_by_distance(fresh, data, exact, position, truth, ef),
        "turned": _recall_by_distance(index, data, exact, position, truth, ef),
        "memory": {"most / first": most / first, "last / fresh": index.memory_bytes / fresh.memory_bytes},
        "cpu_s": churn_s,
        "problems": index.check(),
    }
    return {**found, "recall lost, turned over": found["fresh"] - found["turned"]}


def _index(data: datasets.Dataset) -> embedcore.Index:
    return embedcore.Index(
        data.dim, "ip" if data.metric == "ip" else "l2" if data.metric == "l2" else "cosine"
    )


def _filled(data: datasets.Dataset, rows: Ids) -> embedcore.Index:
    index = _index(data)
    index.add(rows, np.asarray(data.base)[rows], threads=1)
    return index


def _recall(index: embedcore.Index, data: datasets.Dataset, truth: Ids, ef: int) -> float:
    found = index.search(np.asarray(data.queries), K, ef_search=ef).ids
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    return hits / truth.size


def _recall_by_distance(
    index: embedcore.Index,
    data: datasets.Dataset,
    exact: Floats,
    position: dict[int, int],
    truth: Ids,
    ef: int,
) -> float:
    """What is as near as the k-th counts: several ids may hold the same vector."""
    queries = np.asarray(data.queries)
    found = index.search(queries, K, ef_search=ef).ids
    hits = 0
    for query, mine, right in zip(queries, found, truth, strict=True):
        at = np.array([position[int(i)] for i in np.concatenate([mine[mine >= 0], right])])
        score = ((exact[at] - query) ** 2).sum(axis=1) if data.metric == "l2" else -(exact[at] @ query)
        hits += int((score[: -len(right)] <= score[-len(right) :].max() + 1e-6).sum())
    return hits / truth.size


def _cpu_of_searches(index: embedcore.Index, data: datasets.Dataset, ef: int) -> float:
    queries = np.asarray(data.queries)
    start = time.process_time()
    for query in queries:
        index.search(query, K, ef_search=ef)
    return time.process_time() - start


def _show(part: str, found: dict[str, Any], console: Console) -> None:
    table = Table(title=part, title_justify="left")
    for name in ("", "measured", "least", "most", "asked"):
        table.add_column(name, justify="right" if name else "left")
    for key, value in found.items():
        asked = ASKED.get(key, "")
        if isinstance(value, dict) and {"median", "least", "most"} <= set(value):
            table.add_row(key, *(f"{value[p]:.3f}" for p in ("median", "least", "most")), asked)
        elif isinstance(value, float):
            table.add_row(key, f"{value:.4f}", "", "", asked)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if isinstance(inner, dict):
                    table.add_row(
                        f"{key} {name}", *(f"{inner[p]:.3f}" for p in ("median", "least", "most")), ""
                    )
                else:
                    table.add_row(f"{key} {name}", f"{inner:.3f}", "", "", "")
        elif key == "problems":
            table.add_row(key, str(len(value)), "", "", "0")
    console.print(table)
