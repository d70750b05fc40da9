"""``python -m bench recovery --platform``: how soon a killed server serves again.

A data directory with n items in one generation and a snapshot of its index; a server takes some
more writes and is killed with -9. Then it is started again and again, and killed as soon as it serves: from
the start of the process to SERVING of the health service, with what of it went into opening the store,
loading the snapshot and replaying the log. Warm, with all files dropped from the page cache, and without
any snapshot, when the indexes are rebuilt from the stored vectors.

The snapshot is that of an index that was built in bulk (``preset``), since a lane would take hours; the file
and the log behind it are as a server would leave them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console
from rich.table import Table

import embedcore
from bench import datasets, machine
from bench.ratios import spread
from bench.recovery import Floats, forget
from bench.results_file import write_result
from embedcore.client import Client
from embedcore.clock import SystemClock
from embedcore.serving.snapshots import SnapshotDirectory
from embedcore.store import open_store
from embedcore.store.interface import ItemWrite
from embedcore.store.ownership import ADDRESS_FILE
from embedcore.types import Fingerprint, Item, ModelSpec

_BATCH = 1000
_START_S = 3600.0
WAYS = ("snapshot", "snapshot, cold", "stored vectors")


@dataclass(frozen=True, slots=True)
class Plan:
    tail: int = 10_000  # writes after the snapshot
    preset: str | None = None  # of the index that the snapshot is of
    rounds: int = 3
    ways: tuple[str, ...] = WAYS


def run(wanted: datasets.Wanted, plan: Plan, console: Console, out: Path | None) -> dict[str, Any]:
    """The result document, shown and written."""
    data = datasets.load(wanted)
    folder = Path(tempfile.mkdtemp(prefix="embedcore-recovery-"))
    result: dict[str, Any] = {
        "schema": "embedcore-bench-recovery-platform/1",
        "machine": machine.describe(),
        "data": data.describe(),
        "plan": {**asdict(plan), "threads": os.cpu_count()},
    }
    try:
        base = np.asarray(data.base)
        result["made"] = make(folder / "data", base, data.metric, plan, console)
        result["bytes"] = {
            "store": sum(path.stat().st_size for path in (folder / "data").glob("store.sqlite*")),
            "snapshots": sum(path.stat().st_size for path in folder.glob("data/snapshots/*/*")),
        }
        result["ways"] = [measure(folder / "data", way, plan, console) for way in plan.ways]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _show(result, console)
    write_result("recovery-platform", result, out, console)
    return result


def make(folder: Path, base: Floats, metric: str, plan: Plan, console: Console) -> dict[str, float]:
    """The directory as a killed server left it; seconds of each step."""
    console.print(f"writing {len(base):,} items", style="dim")
    seconds = {}
    store = open_store(folder, SystemClock())
    try:
        fingerprint = Fingerprint(model="bench", revision="1", dimension=base.shape[1], metric=metric)  # type: ignore[arg-type]
        store.put_model(ModelSpec(name="bench", backend="external", fingerprint=fingerprint))
        store.create_generation("bench", "serving", time.time())
        began = time.perf_counter()
        for first in range(0, len(base), _BATCH):
            store.write_items(
                [
                    ItemWrite(str(first + n), vectors={1: row})
                    for n, row in enumerate(base[first : first + _BATCH])
                ]
            )
        seconds["write_s"] = time.perf_counter() - began
        head = store.head(0)
    finally:
        store.close()
    began = time.perf_counter()
    index = embedcore.Index(base.shape[1], metric, preset=plan.preset)  # type: ignore[arg-type]
    index.add(np.arange(1, len(base) + 1), base)
    path = SnapshotDirectory(folder).folder(1, 0) / f"{head}.ecx"
    path.parent.mkdir(parents=True)
    index.save(path, fingerprint=fingerprint.digest, watermark=head)
    del index
    seconds["index_s"] = time.perf_counter() - began
    with _served(folder) as (_, address), Client(address) as client:
        rows = np.random.default_rng(1).permutation(base[: plan.tail])
        began = time.perf_counter()
        for first in range(0, len(rows), _BATCH):
            # Half of them replace items, half are new.
            client.upsert(
                [
                    Item(
                        id=str(first + n) if n % 2 else f"new {first + n}",
                        vectors={fingerprint.digest: row},
                    )
                    for n, row in enumerate(rows[first : first + _BATCH])
                ]
            )
        seconds["tail_s"] = time.perf_counter() - began
    return seconds


def measure(folder: Path, way: str, plan: Plan, console: Console) -> dict[str, Any]:
    """Starts and kills: seconds from the start of the process to SERVING, and its parts."""
    parts: dict[str, list[float]] = {}
    rounds = plan.rounds if way.startswith("snapshot") else 1
    console.print(f"from {way}, {rounds} rounds", style="dim")
    if way == "stored vectors":
        shutil.rmtree(folder / "snapshots")
    for _ in range(rounds):
        if "cold" in way:
            for path in folder.rglob("*"):
                if path.is_file():
                    forget(path)
        with _served(folder) as (seconds, address), Client(address) as client:
            status = client.status()
            shard = status.details["recovery"]["g1-s0"]
            assert shard["source"].startswith(way.partition(",")[0])
            loading = shard["loading_seconds"]
            found = {
                "serving_s": seconds,
                "store_s": status.details["store"]["opened_seconds"],
                "loading_s": loading,
                "replay_s": shard["seconds"] - loading,
                "replayed": float(shard["done"]),
            }
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    return {"way": way, **{name: asdict(spread(values)) for name, values in parts.items()}}


_SERVING = health_pb2.HealthCheckResponse.SERVING


@contextmanager
def _served(folder: Path) -> Iterator[tuple[float, str]]:
    """A server process, killed with -9 at the end: seconds to SERVING, and its address."""
    command = [sys.executable, "-m", "embedcore", "serve", "--data", str(folder)]
    command += ["--listen", "127.0.0.1:0", "--stream-listen", "127.0.0.1:0", "--snapshot-interval", "0"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = _address(folder, process, began + _START_S)
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not _serves(stub):
                _must_run(process, began + _START_S)
                time.sleep(0.01)
            yield time.perf_counter() - began, address
    finally:
        process.kill()
        process.wait()


def _serves(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        return bool(stub.Check(health_pb2.HealthCheckRequest(), timeout=5.0).status == _SERVING)
    except grpc.RpcError:  # it does not listen yet, or has ended
        return False


def _address(folder: Path, process: subprocess.Popen[bytes], deadline: float) -> str:
    while True:
        _must_run(process, deadline)
        try:
            published = json.loads((folder / ADDRESS_FILE).read_text())
        except (OSError, ValueError):
            time.sleep(0.005)
            continue
        if published["pid"] == process.pid:  # not that of the server before
            return str(published["address"])
        time.sleep(0.005)


def _must_run(process: subprocess.Popen[bytes], deadline: float) -> None:
    if process.poll() is not None or time.perf_counter() > deadline:
        raise ValueError(f"the server did not come up (exit code {process.poll()}): run it by hand")


def _show(result: dict[str, Any], console: Console) -> None:
    console.print(machine.line(result["machine"]), style="dim", soft_wrap=True)
    data, plan, size = result["data"], result["plan"], result["bytes"]
    console.print(
        f"{data['n']:,} items x {data['dim']}, {plan['tail']:,} writes"
        f" after the snapshot; store {size['store'] / 1e9:.2f} GB, snapshots {size['snapshots'] / 1e9:.2f} GB"
    )
    names = ("from", "SERVING after s", "least", "most", "store s", "loading s", "replay s", "replayed")
    table = Table(*names, box=None)
    for row in result["ways"]:
        serving = row["serving_s"]
        table.add_row(
            row["way"],
            *(f"{serving[key]:.2f}" for key in ("median", "least", "most")),
            *(f"{row[key]['median']:.2f}" for key in ("store_s", "loading_s", "replay_s")),
            f"{row['replayed']['median']:,.0f}",
        )
    console.print(table)
