"""One engine in one process. All engines of a run are alive at once, and only one is at work at a time.

A process each keeps their thread pools and allocators apart, makes resident memory attributable, and lets a
library that crashes cost its own row only. Clocks run here, around the library's calls and nothing else.
"""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench import engines, memory

Mode = Literal["single", "batch"]
Half = Literal["tune", "test"]

# Before a clock starts: the caches hold what the engine before left there.
_WARM_UP = 100
_TRIAL_ITEMS = 300


@dataclass(frozen=True)
class Built:
    cpu_s: float
    wall_s: float
    resident_bytes: int
    memory_bytes: int | None
    settings: str
    offers_batch: bool


@dataclass(frozen=True)
class Pass:
    """One timed pass. CPU seconds are of the whole process: a helper thread does not hide. Latencies in
    microseconds, single queries only."""

    queries: int
    cpu_s: float
    wall_s: float
    p50_us: float | None = None
    p95_us: float | None = None
    p99_us: float | None = None


def halves(queries: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """ef is chosen on one half, recall and time are reported on the other."""
    middle = len(queries) // 2
    return {"tune": queries[:middle], "test": queries[middle:]}


def serve(connection: Connection, name: str, configuration: engines.Configuration, folder: Path) -> None:
    """The process. Answers (method, arguments) with ("ok", value) or a kind of problem and its text."""
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # libraries print their progress
        os.dup2(silent, stream)
    try:
        bench = _Bench(name, configuration, folder)
    except Exception as error:  # whatever a library raises is the answer
        connection.send(_problem(error))
        return
    connection.send(("ok", bench.version))
    while True:
        try:
            method, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send(("ok", getattr(bench, method)(*arguments)))
        except Exception as error:
            connection.send(_problem(error))


def _problem(error: Exception) -> tuple[str, str]:
    if isinstance(error, engines.NotInstalled):
        return "absent", str(error)
    if isinstance(error, engines.NotAvailable):
        return "refused", str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return "failed", f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"


class _Bench:
    def __init__(self, name: str, configuration: engines.Configuration, folder: Path) -> None:
        self._base = np.load(folder / "base.npy", mmap_mode="c").view(np.ndarray)
        self._queries = halves(np.load(folder / "queries.npy"))
        self._name, self._configuration = name, configuration
        # A trial run: the library's own code, buffers and pools are there before memory is first read.
        trial = engines.make(name, engines.Configuration(**{**asdict(configuration), "items": _TRIAL_ITEMS}))
        trial.build(np.array(self._base[:_TRIAL_ITEMS]))
        searcher = trial.searcher(1, 10)
        searcher.one(searcher.prepare(self._queries["tune"][0]))
        self.version = trial.version()
        self._engine = trial

    def build(self) -> Built:
        memory.touch(self._base)
        del self._engine
        before = memory.settle()
        self._engine = engines.make(self._name, self._configuration)
        cpu, wall = time.process_time(), time.perf_counter()
        self._engine.build(self._base)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        after = memory.settle()
        self._engine.tune()
        return Built(
            cpu,
            wall,
            after - before,
            self._engine.memory_bytes(),
            self._engine.settings(),
            self._engine.searcher(1, 10).many is not None,
        )

    def search(
        self, half: Half, mode: Mode, k: int, ef: int, count: int | None
    ) -> tuple[NDArray[np.int64], float]:
        """Row numbers (q, k) of the first ``count`` queries, and CPU seconds per query."""
        rows = self._queries[half][:count]
        searcher = self._engine.searcher(k, ef)
        if mode == "batch":
            assert searcher.many is not None
            start = time.process_time()
            found = searcher.ids(searcher.many(rows))
            return np.asarray(found, dtype=np.int64), (time.process_time() - start) / len(rows)
        prepared = [searcher.prepare(row) for row in rows]
        start = time.process_time()
        raw = [searcher.one(row) for row in prepared]
        seconds = time.process_time() - start
        return np.vstack([searcher.ids(one) for one in raw]).astype(np.int64), seconds / len(rows)

    def timed(self, mode: Mode, k: int, ef: int, count: int, sweeps: int) -> Pass:
        """``sweeps`` times the first ``count`` queries of the test half."""
        rows = self._queries["test"][:count]
        searcher = self._engine.searcher(k, ef)
        if mode == "batch":
            assert searcher.many is not None
            searcher.many(rows[:_WARM_UP])
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(sweeps):
                searcher.many(rows)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            return Pass(sweeps * len(rows), cpu, wall)
        prepared = [searcher.prepare(row) for row in rows]
        one, now = searcher.one, time.perf_counter_ns
        for row in prepared[:_WARM_UP]:
            one(row)
        # The stamp after a call is the stamp before the next: a latency includes the loop and the stamp.
        cpu = time.process_time()
        stamps = [now()]
        for _ in range(sweeps):
            for row in prepared:
                one(row)
                stamps.append(now())
        cpu = time.process_time() - cpu
        micros = np.diff(np.asarray(stamps, dtype=np.int64)) / 1e3
        p50, p95, p99 = np.percentile(micros, [50, 95, 99])
        return Pass(len(micros), cpu, float(micros.sum()) / 1e6, float(p50), float(p95), float(p99))
