"""``python -m bench recovery``: how soon an index is back, and what its snapshots cost.

Saving: time and bytes, and how long a writer beside it waits at most. Loading: from the call to the first
answer, mapped and read, warm and cold (the file dropped from the page cache). Replay: a lane that follows the
log of a store from its beginning, as recovery does, against one call of Index.add with the same vectors and
threads, in turns. Recovery: the platform opened, from a snapshot and from the stored vectors.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import embedcore
from bench import datasets, machine
from bench.ratios import order_of_round, spread
from bench.results_file import write_result
from embedcore.platform import Platform
from embedcore.serving.lane import Lane
from embedcore.serving.recovery import REPLAY_STEP
from embedcore.serving.snapshots import SnapshotSettings
from embedcore.store import SqlStore
from embedcore.store.interface import ItemWrite
from embedcore.types import Fingerprint, ModelSpec

ASKED_FIRST_QUERY_MS = 200.0
ASKED_RATIO = 1.2
_MODEL = "bench"
_BATCH = 1000
_K = 10

Floats = NDArray[np.float32]


def run(
    wanted: datasets.Wanted,
    rounds: int,
    console: Console,
    out: Path | None,
    *,
    snapshot: Path | None = None,
    dtype: str = "float32",
    preset: str | None = None,
    replay: bool = True,
) -> dict[str, Any]:
    """The result document, shown and written. ``snapshot``: a file made before, whose loading is measured in
    place of that of one made from the data."""
    data = datasets.load(wanted)
    base = np.asarray(data.base)
    described = machine.describe()
    folder = Path(tempfile.mkdtemp(prefix="embedcore-recovery-"))
    result: dict[str, Any] = {
        "schema": "embedcore-bench-recovery/1",
        "machine": described,
        "data": data.describe(),
        "plan": {"rounds": rounds, "dtype": dtype, "preset": preset or "", "threads": os.cpu_count()},
    }
    try:
        if snapshot is None:
            snapshot = folder / "index.ecx"
            console.print(f"building an index of {len(base):,} vectors", style="dim")
            index = embedcore.Index(base.shape[1], data.metric, dtype=dtype, preset=preset)  # type: ignore[arg-type]
            began = time.perf_counter()
            index.add(np.arange(len(base)), base)
            result["build_s"] = time.perf_counter() - began
            result["save"] = saving(index, snapshot, rounds)
            del index
        result["load"] = loading(snapshot, rounds)
        if replay:
            console.print(f"replay of {len(base):,} writes against Index.add, {rounds} rounds", style="dim")
            result["replay"] = replaying(base, data.metric, folder / "data", rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _show(result, console)
    write_result("recovery", result, out, console)
    return result


def saving(index: embedcore.Index, path: Path, rounds: int) -> dict[str, Any]:
    """Seconds and bytes, and the longest that a writer of single items waited, with and without a save."""
    seconds = []
    row = index.get(index.ids()[:1])
    item = int(index.ids()[-1]) + 1
    alone = _longest_write(index, item, row, lambda: time.sleep(0.3))
    beside = []
    for _ in range(rounds):
        began = time.perf_counter()
        beside.append(_longest_write(index, item, row, lambda: index.save(path)))
        seconds.append(time.perf_counter() - began)
    return {
        "seconds": asdict(spread(seconds)),
        "bytes": path.stat().st_size,
        "items": len(index),
        "longest_write_ms": {"alone": alone * 1e3, "beside": asdict(spread([b * 1e3 for b in beside]))},
    }


def _longest_write(index: embedcore.Index, item: int, row: Floats, work: Callable[[], object]) -> float:
    """Seconds of the slowest add, of one item that is replaced again and again, while the work is done."""
    stop = threading.Event()
    longest = 0.0

    def write() -> None:
        nonlocal longest
        while not stop.is_set():
            began = time.perf_counter()
            index.add([item], row, threads=1)
            longest = max(longest, time.perf_counter() - began)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        work()
    finally:
        stop.set()
        writer.join()
    return longest


def loading(path: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds from the call of load to the first answer, per way; to the end of the background check;
    and CPU milliseconds, which depend less on who else is at the machine."""
    found: dict[str, dict[str, list[float]]] = {
        way: {"first_answer_ms": [], "cpu_ms": [], "verified_ms": []}
        for way in ("mapped, warm", "read, warm", "mapped, cold", "read, cold")
    }
    dim = embedcore.Index.load(path, mmap=True).dim
    query = np.random.default_rng(7).standard_normal(dim).astype(np.float32)
    for number in range(rounds):
        for way in order_of_round(list(found), number):
            gc.collect()
            if "cold" in way:
                forget(path)
            else:
                _warm(path)
            cpu = time.process_time()
            began = time.perf_counter()
            index = embedcore.Index.load(path, mmap="mapped" in way)
            index.search(query, k=_K)
            found[way]["first_answer_ms"].append((time.perf_counter() - began) * 1e3)
            found[way]["cpu_ms"].append((time.process_time() - cpu) * 1e3)
            index.wait_verified()
            found[way]["verified_ms"].append((time.perf_counter() - began) * 1e3)
            del index
    return {
        "bytes": path.stat().st_size,
        **{way: {name: asdict(spread(v)) for name, v in each.items()} for way, each in found.items()},
    }


def forget(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _warm(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def replaying(base: Floats, metric: str, folder: Path, rounds: int) -> dict[str, Any]:
    """A store is filled; then, in turns, replay of its log and one Index.add; then the platform is opened."""
    fingerprint = Fingerprint(model=_MODEL, revision="1", dimension=base.shape[1], metric=metric)  # type: ignore[arg-type]
    never = SnapshotSettings(interval_s=0, at_close=False)
    with _opened(folder, never) as platform:
        platform.register_model(ModelSpec(name=_MODEL, backend="external", fingerprint=fingerprint))
        platform.create_generation(_MODEL)
        began = time.perf_counter()
        for first in range(0, len(base), _BATCH):
            rows = base[first : first + _BATCH]
            platform.store.write_items(
                [ItemWrite(str(first + n), vectors={1: row}) for n, row in enumerate(rows)]
            )
        written = time.perf_counter() - began
        store = platform.store
        platform.serving.lanes.detach(1)  # nobody else follows while it is measured
        times: dict[str, list[float]] = {"add": [], "replay": []}
        ids, stored = _all(store)
        for number in range(rounds):
            for name in order_of_round(list(times), number):
                index = embedcore.Index(base.shape[1], metric)  # type: ignore[arg-type]
                began = time.perf_counter()
                if name == "add":
                    index.add(ids, stored)
                else:
                    lane = Lane(store, 1, 0, index)
                    while lane.step(REPLAY_STEP, 0):
                        pass
                times[name].append(time.perf_counter() - began)
                assert len(index) == len(base)
    return {
        "items": len(base),
        "writes_per_s": len(base) / written,
        "seconds": {name: asdict(spread(values)) for name, values in times.items()},
        "ratio": asdict(spread([r / a for r, a in zip(times["replay"], times["add"], strict=True)])),
        "open_s": _opening(folder),
    }


def _all(store: SqlStore) -> tuple[NDArray[np.int64], Floats]:
    ids, rows = store.scan_vectors(1, 0, -1, store.live_items())
    return ids, np.ascontiguousarray(rows, np.float32)


def _opening(folder: Path) -> dict[str, float]:
    """Seconds until the platform answers: from the stored vectors, then from a snapshot at the head."""
    found = {}
    for way in ("stored vectors", "snapshot"):
        began = time.perf_counter()
        with _opened(folder, SnapshotSettings(interval_s=0)) as platform:
            found[way] = time.perf_counter() - began
            assert platform.serving.recovery.status()["g1-s0"]["source"].startswith(way)
    return found


def _opened(folder: Path, settings: SnapshotSettings) -> Platform:
    platform = Platform.open(folder, snapshots=settings)
    assert isinstance(platform, Platform)
    return platform


def _show(result: dict[str, Any], console: Console) -> None:
    if save := result.get("save"):
        wait = save["longest_write_ms"]
        console.print(
            f"save: {save['seconds']['median']:.2f} s, {save['bytes'] / save['items']:,.0f} bytes an item;"
            f" the slowest single write took {wait['beside']['median']:.1f} ms beside it,"
            f" {wait['alone']:.1f} ms alone"
        )
    table = Table("load", "first answer ms", "least", "CPU ms", "verified after ms", box=None)
    for way, each in result["load"].items():
        if way == "bytes":
            continue
        first = each["first_answer_ms"]
        table.add_row(
            way,
            f"{first['median']:.0f}",
            f"{first['least']:.0f}",
            f"{each['cpu_ms']['median']:.0f}",
            f"{each['verified_ms']['median']:.0f}",
        )
    console.print(table)
    console.print(f"asked: the first answer of a warm mapped index within {ASKED_FIRST_QUERY_MS:.0f} ms")
    if replay := result.get("replay"):
        seconds, ratio = replay["seconds"], replay["ratio"]
        console.print(
            f"replay of {replay['items']:,}: {seconds['replay']['median']:.1f} s, Index.add"
            f" {seconds['add']['median']:.1f} s, ratio {ratio['median']:.2f} ({ratio['least']:.2f} to"
            f" {ratio['most']:.2f}; asked: at most {ASKED_RATIO})"
        )
        opened = replay["open_s"]
        console.print(
            f"platform opened: {opened['snapshot']:.2f} s from a snapshot,"
            f" {opened['stored vectors']:.1f} s from the stored vectors"
        )
