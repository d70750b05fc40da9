"""``python -m bench truth``: acknowledged writes a second, and what the durable store costs of a dual write.

Three questions, each over real vectors, two generations, an item with both its vectors in every write:

* how many writes a second are acknowledged, one item or a batch a call, from one thread or several, under
  each durability; and how many commits they took, since writers that meet share one;
* which share of a batched, acknowledged dual-write is the store's: the same batches go to a store and to two
  indexes in turn, and the share is store / (store + indexes);
* the same writes in other embedded stores, in a virtual environment of their own.

Wall time, since a commit waits for the disk; CPU time beside it, where the machine was busy.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import event

import embedcore
from bench import datasets, machine
from bench.ratios import Spread, spread
from bench.results_file import write_result
from embedcore.clock import SystemClock
from embedcore.store import SqlStore, open_store
from embedcore.store.dialect import DURABILITIES, Durability
from embedcore.store.interface import ItemWrite
from embedcore.types import Fingerprint, ModelSpec

ASKED_SHARE = 0.2
SHARE_BATCHES = (64, 256, 1024)
PEERS = ("chroma", "lancedb", "milvus-lite", "sqlite-vec", "qdrant-edge")
GENERATIONS = 2
TEXT = "a text of some eighty characters, as a definition in a dictionary would have it "
NOT_MEASURED = "not measured"


def run(
    wanted: datasets.Wanted,
    seconds: float,
    rounds: int,
    folder: Path | None,
    peers: Sequence[str],
    peers_python: Path | None,
    console: Console,
    out: Path | None,
) -> dict[str, Any]:
    """The result document, shown and written. ``folder``: where the databases lie, i.e. which disk."""
    described = machine.describe()
    data = datasets.load(wanted)
    vectors = np.asarray(data.base)
    with tempfile.TemporaryDirectory(prefix="truth-", dir=folder) as scratch:
        place = Path(scratch)
        rates = [
            _rate(place, vectors, durability, batch, threads, seconds, rounds, console)
            for durability in DURABILITIES
            for batch, threads in ((1, 1), (1, 8), (64, 1), (64, 4), (256, 1))
        ]
        shares = [_share(place, vectors, data.metric, batch, rounds, console) for batch in SHARE_BATCHES]
        others = [_peer(name, place, vectors, seconds, peers_python, console) for name in peers]
    result = {
        "schema": "embedcore-bench-truth/1",
        "machine": described,
        "data": data.describe(),
        "plan": {"seconds": seconds, "rounds": rounds, "generations": GENERATIONS},
        "fsync_ms": _fsync_ms(folder),
        "rates": rates,
        "shares": shares,
        "peers": others,
    }
    _show(result, console)
    write_result("truth", result, out, console)
    return result


@contextmanager
def _store(place: Path, dimension: int, durability: Durability) -> Iterator[SqlStore]:
    folder = place / "data"
    store = open_store(folder, SystemClock(), durability=durability)
    try:
        for number in range(1, GENERATIONS + 1):
            name = f"model-{number}"
            fingerprint = Fingerprint(model=name, revision="1", dimension=dimension)
            store.put_model(ModelSpec(name=name, backend="external", fingerprint=fingerprint))
            store.create_generation(name, "serving", 0.0)
        yield store
    finally:
        store.close()
        shutil.rmtree(folder)


def _writes(vectors: datasets.Floats, start: int, count: int, prefix: str = "i") -> list[ItemWrite]:
    rows = [vectors[(start + n) % len(vectors)] for n in range(count)]
    return [
        ItemWrite(f"{prefix}{start + n}", content=TEXT, vectors=dict.fromkeys(range(1, GENERATIONS + 1), row))
        for n, row in enumerate(rows)
    ]


def _rate(
    place: Path,
    vectors: datasets.Floats,
    durability: Durability,
    batch: int,
    threads: int,
    seconds: float,
    rounds: int,
    console: Console,
) -> dict[str, Any]:
    console.print(f"{durability}, {batch} a call, {threads} threads", style="dim")
    found, cpu, per_commit = [], [], []
    for _ in range(rounds):
        with _store(place, vectors.shape[1], durability) as store:
            commits = [0]
            event.listen(store.database._write_engine, "commit", lambda _, n=commits: _count(n))
            written = [0] * threads
            end = time.perf_counter() + seconds

            def work(
                thread: int, store: SqlStore = store, written: list[int] = written, end: float = end
            ) -> None:
                while time.perf_counter() < end:
                    store.write_items(_writes(vectors, written[thread], batch, f"t{thread}-"))
                    written[thread] += batch

            started, used = time.perf_counter(), time.process_time()
            workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            took, used = time.perf_counter() - started, time.process_time() - used
            found.append(sum(written) / took)
            cpu.append(used / sum(written) * 1e6)
            per_commit.append(sum(written) / batch / commits[0])
    return {
        "durability": durability,
        "batch": batch,
        "threads": threads,
        "items_per_s": asdict(spread(found)),
        "cpu_us_per_item": asdict(spread(cpu)),
        "writes_per_commit": asdict(spread(per_commit)),
    }


def _count(counter: list[int]) -> None:
    counter[0] += 1


def _share(
    place: Path, vectors: datasets.Floats, metric: str, batch: int, rounds: int, console: Console
) -> dict[str, Any]:
    """Batches of the corpus go to the store and to two indexes in turn, on one thread."""
    console.print(f"share of the store, {batch} a call, {len(vectors):,} items", style="dim")
    wall: list[float] = []
    cpu: list[float] = []
    seconds: dict[str, list[float]] = {"store": [], "indexes": []}
    for _ in range(rounds):
        indexes = [embedcore.Index(vectors.shape[1], metric) for _ in range(GENERATIONS)]  # type: ignore[arg-type]
        spent = {"store": np.zeros(2), "indexes": np.zeros(2)}
        with _store(place, vectors.shape[1], "fsync") as store:
            for start in range(0, len(vectors), batch):
                count = min(batch, len(vectors) - start)
                writes = _writes(vectors, start, count)
                with _spending(spent["store"]):
                    store.write_items(writes)
                ids = np.arange(start, start + count)
                with _spending(spent["indexes"]):
                    for index in indexes:
                        index.add(ids, vectors[start : start + count], threads=1)
        both = spent["store"] + spent["indexes"]
        wall.append(float(spent["store"][0] / both[0]))
        cpu.append(float(spent["store"][1] / both[1]))
        for name, values in spent.items():
            seconds[name].append(float(values[0]))
    return {
        "batch": batch,
        "items": len(vectors),
        "share_wall": asdict(spread(wall)),
        "share_cpu": asdict(spread(cpu)),
        "wall_us_per_item": {
            name: asdict(spread([value / len(vectors) * 1e6 for value in values]))
            for name, values in seconds.items()
        },
    }


@contextmanager
def _spending(total: np.ndarray[Any, np.dtype[np.float64]]) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    total += (time.perf_counter() - wall, time.process_time() - cpu)


def _fsync_ms(folder: Path | None) -> dict[str, float]:
    """What this disk takes for a small write and its fsync, without any database."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(200):
            started = time.perf_counter()
            os.write(file.fileno(), b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - started) * 1e3)
    return asdict(spread(times))


def _peer(
    name: str, place: Path, vectors: datasets.Floats, seconds: float, python: Path | None, console: Console
) -> dict[str, Any]:
    """One peer in its own interpreter; the reason where it is not measured."""
    if python is None:
        return {"name": name, "result": NOT_MEASURED, "reason": "no --peers-python was given"}
    console.print(f"peer {name}", style="dim")
    given = place / "vectors.npy"
    if not given.exists():
        np.save(given, np.asarray(vectors[:20_000], dtype=np.float32))
    script = Path(__file__).with_name("durable_peers.py")
    folder = place / f"peer-{name}"
    folder.mkdir()
    try:
        done = subprocess.run(
            [str(python), str(script), name, str(folder), str(given), str(seconds)],
            capture_output=True,
            text=True,
            timeout=60 + 20 * seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"name": name, "result": NOT_MEASURED, "reason": "it did not end in time"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return {"name": name, "result": NOT_MEASURED, "reason": last[:200]}
    return {"name": name, **json.loads(done.stdout.strip().splitlines()[-1])}


def _show(result: dict[str, Any], console: Console) -> None:
    console.print(machine.line(result["machine"]), style="dim", soft_wrap=True)
    data = result["data"]
    table = Table(
        title=f"Acknowledged items a second, {data['dim']} dimensions, {GENERATIONS} generations",
        title_justify="left",
    )
    for name in (
        "durability",
        "a call",
        "threads",
        "median",
        "least",
        "most",
        "CPU us/item",
        "writes/commit",
    ):
        table.add_column(name, justify="left" if name == "durability" else "right")
    for row in result["rates"]:
        rates = [f"{row['items_per_s'][key]:,.0f}" for key in ("median", "least", "most")]
        table.add_row(
            row["durability"],
            str(row["batch"]),
            str(row["threads"]),
            *rates,
            f"{row['cpu_us_per_item']['median']:.0f}",
            f"{row['writes_per_commit']['median']:.1f}",
        )
    console.print(table)
    synced = result["fsync_ms"]
    console.print(
        f"4 KiB and a sync on this disk: {synced['median']:.2f} ms"
        f" ({synced['least']:.2f} to {synced['most']:.2f})"
    )
    table = Table(title="Share of the store in a batched dual-write, fsync on", title_justify="left")
    for name in ("a call", "wall", "least", "most", "CPU", "store us/item", "indexes us/item", "asked"):
        table.add_column(name, justify="right")
    for row in result["shares"]:
        wall = Spread(**row["share_wall"])
        table.add_row(
            str(row["batch"]),
            *(f"{100 * value:.1f}%" for value in (wall.median, wall.least, wall.most)),
            f"{100 * row['share_cpu']['median']:.1f}%",
            f"{row['wall_us_per_item']['store']['median']:.0f}",
            f"{row['wall_us_per_item']['indexes']['median']:.0f}",
            f"< {100 * ASKED_SHARE:.0f}%",
        )
    console.print(table)
    if result["peers"]:
        table = Table(title="Other embedded stores: items a second, one thread", title_justify="left")
        for name in ("store", "1 a call", "64 a call", "256 a call", "waits for the disk", "note"):
            table.add_column(name, justify="right" if name.endswith("a call") else "left")
        for row in result["peers"]:
            if row.get("result") == NOT_MEASURED:
                table.add_row(row["name"], "", "", "", "", f"{NOT_MEASURED}: {row['reason']}")
            else:
                rates = [f"{row['items_per_s'][key]:,.0f}" for key in ("1", "64", "256")]
                # Faster than this disk syncs at its best, so not every write waited for it.
                waits = "no" if row["items_per_s"]["1"] > 1e3 / synced["least"] else "perhaps"
                table.add_row(f"{row['name']} {row['version']}", *rates, waits, row["note"])
        console.print(table)
