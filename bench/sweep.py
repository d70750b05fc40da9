"""The sweep: every engine built, tuned and timed in one run, passes interleaved round-robin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench import engines
from bench.breadth import Chooser
from bench.datasets import Dataset
from bench.fleet import Unmeasured, Worker
from bench.ratios import order_of_round
from bench.truth import recall
from bench.worker import Mode, Pass, halves

MODES: tuple[Mode, ...] = ("single", "batch")
_EXACT_QUERIES = 64
# A sweep over the test half that takes longer than that many passes is cut to its first queries.
_LONGEST = 3
_RECALL_EF = 100


@dataclass(frozen=True)
class Plan:
    """What is measured. ``pass_s``: CPU seconds a timed pass aims at."""

    names: Sequence[str]
    ks: Sequence[int] = (10,)
    levels: Sequence[float] = (0.90, 0.95, 0.99)
    modes: Sequence[Mode] = MODES
    rounds: int = 5
    pass_s: float = 0.5
    m: int = 16
    ef_construction: int = 200
    most_ef: int = 2048
    curve: Sequence[int] = ()
    patience_s: float = 3600.0


@dataclass
class Point:
    """One engine at one level. ``recall_tuned``: on the half that chose ef; ``recall``: on the other."""

    engine: str
    k: int
    mode: Mode
    level: float | None
    ef: int | None
    recall_tuned: float
    recall: float | None = None
    queries: int = 0
    sweeps: int = 0
    passes: list[Pass] = field(default_factory=list)

    @property
    def per_cpu_s(self) -> list[float]:
        return [one.queries / one.cpu_s for one in self.passes]


@dataclass
class Sweep:
    """Everything that was measured: ``engines`` by name (status, build), points, and the curve's points."""

    engines: dict[str, dict[str, Any]]
    points: list[Point]
    curve: list[Point]


Say = Callable[[str], None]


def run(data: Dataset, plan: Plan, say: Say, keep: Callable[[Sweep], None] = lambda sweep: None) -> Sweep:
    """Builds every engine of the plan in turn, then measures them side by side. ``keep`` is given what there
    is after every stage: a run takes long, and may be ended early."""
    sweep = Sweep({}, [], [])
    workers: dict[str, Worker] = {}
    try:
        for name in plan.names:
            _start(name, data, plan, say, sweep, workers)
        bench = _Side(data, plan, say, sweep, workers)
        keep(sweep)
        for measure in (bench.levels, bench.curve):  # the plot last
            for k in plan.ks:
                for mode in plan.modes:
                    measure(k, mode)
                    keep(sweep)
    finally:
        for worker in workers.values():
            worker.close()
    return sweep


def _start(name: str, data: Dataset, plan: Plan, say: Say, sweep: Sweep, workers: dict[str, Worker]) -> None:
    configuration = engines.Configuration(data.dim, data.metric, data.n, plan.m, plan.ef_construction)
    worker: Worker | None = None
    try:
        worker = Worker(name, configuration, data.folder, plan.patience_s)
        built = worker.build()
        if name in engines.EXACT:
            at_100 = None
        else:
            found, _ = worker.search("test", "single", 10, _RECALL_EF)
            at_100 = recall(data.base, halves(data.queries)["test"], _test_truth(data), found, data.metric)
    except Unmeasured as error:
        if worker is not None:
            worker.close()
        sweep.engines[name] = {"status": error.status, "reason": error.reason}
        say(f"{name}: {error.status}: {error.reason}")
        return
    workers[name] = worker
    sweep.engines[name] = {
        "status": "measured",
        "version": worker.version,
        "build": asdict(built),
        "recall_at_ef_100": at_100,
        "bytes_per_vector": built.resident_bytes / data.n,
    }
    quality = "" if at_100 is None else f", recall@10 {at_100:.4f} at ef {_RECALL_EF}"
    say(f"{name}: built in {built.cpu_s:.1f} CPU s, {built.resident_bytes / data.n:.0f} B/vector{quality}")


def _test_truth(data: Dataset) -> Any:
    return data.truth[len(data.queries) // 2 :]


class _Side:
    """The workers side by side. An engine that fails is marked so and leaves; the others go on."""

    def __init__(self, data: Dataset, plan: Plan, say: Say, sweep: Sweep, workers: dict[str, Worker]) -> None:
        self._data, self._plan, self._say, self._sweep, self._workers = data, plan, say, sweep, workers
        self._queries = halves(data.queries)
        middle = len(data.queries) // 2
        self._truth = {"tune": data.truth[:middle], "test": data.truth[middle:]}
        # What batch mode needed is close to what single mode needs, and the other way round.
        self._guesses: dict[tuple[str, int, float], int] = {}

    def levels(self, k: int, mode: Mode) -> None:
        """Chooses ef for every engine and level, then times all engines of a level round by round."""
        points: list[Point] = []
        for name in self._takers(mode):
            try:
                mine = self._tuned(self._workers[name], k, mode)
            except Unmeasured as error:
                self._drop(name, error)
                continue
            points += mine
            reached = ", ".join(
                f"{point.level}: " + (f"ef {point.ef}" if point.ef else f"never ({point.recall_tuned:.4f})")
                for point in mine
            )
            self._say(f"{name}, k {k}, {mode}: {reached}")
        self._sweep.points += points
        for level in self._plan.levels:
            at_level = {point.engine: point for point in points if point.level in (level, None)}
            self._time(at_level, self._plan.rounds)
            self._say(f"timed k {k}, {mode}, recall {level}")

    def curve(self, k: int, mode: Mode) -> None:
        """Recall and rate over a grid of ef, one pass each, for the plot."""
        for ef in sorted({max(ef, k) for ef in self._plan.curve}):
            points = {}
            for name in self._takers(mode):
                if name in engines.EXACT:
                    continue
                try:
                    points[name] = self._point(self._workers[name], k, mode, None, ef, float("nan"))
                except Unmeasured as error:
                    self._drop(name, error)
            self._time(points, 1)
            self._sweep.curve += points.values()

    def _takers(self, mode: Mode) -> list[str]:
        return [
            name
            for name, worker in self._workers.items()
            if mode == "single" or (worker.built is not None and worker.built.offers_batch)
        ]

    def _tuned(self, worker: Worker, k: int, mode: Mode) -> list[Point]:
        if worker.name in engines.EXACT:
            # Exact has no levels: one point per level, so that it takes part in every round.
            once = self._point(worker, k, mode, None, k, 1.0)
            return [replace(once, level=level, passes=[]) for level in self._plan.levels]
        chooser = Chooser(lambda ef: self._recall(worker, "tune", mode, k, ef)[0], k, self._plan.most_ef)
        points = []
        for level in sorted(self._plan.levels):
            choice = chooser.choose(level, self._guesses.get((worker.name, k, level)))
            if choice.ef is None:
                points.append(Point(worker.name, k, mode, level, None, choice.recall))
            else:
                self._guesses[worker.name, k, level] = choice.ef
                points.append(self._point(worker, k, mode, level, choice.ef, choice.recall))
        return points

    def _point(
        self, worker: Worker, k: int, mode: Mode, level: float | None, ef: int, recall_tuned: float
    ) -> Point:
        share, per_query = self._recall(worker, "test", mode, k, ef)
        half = len(self._queries["test"])
        pass_s = self._plan.pass_s
        if per_query * half > _LONGEST * pass_s:
            count, sweeps = min(half, max(4, int(pass_s / per_query))), 1
        else:
            count, sweeps = half, max(1, round(pass_s / max(per_query * half, 1e-9)))
        return Point(worker.name, k, mode, level, ef, recall_tuned, share, count, sweeps)

    def _recall(self, worker: Worker, half: str, mode: Mode, k: int, ef: int) -> tuple[float, float]:
        count = _EXACT_QUERIES if worker.name in engines.EXACT else None
        found, per_query = worker.search("tune" if half == "tune" else "test", mode, k, ef, count)
        queries, truth = self._queries[half][:count], self._truth[half][:count]
        return recall(self._data.base, queries, truth, found, self._data.metric), per_query

    def _time(self, points: dict[str, Point], rounds: int) -> None:
        timed = [name for name, point in points.items() if point.ef is not None]
        for number in range(rounds):
            for name in order_of_round(timed, number) if timed else []:
                if name not in self._workers:
                    continue
                point = points[name]
                assert point.ef is not None
                try:
                    done = self._workers[name].timed(
                        point.mode, point.k, point.ef, point.queries, point.sweeps
                    )
                except Unmeasured as error:
                    self._drop(name, error)
                    point.passes.clear()
                else:
                    point.passes.append(done)

    def _drop(self, name: str, error: Unmeasured) -> None:
        self._say(f"{name}: {error.status}: {error.reason}")
        self._sweep.engines[name] |= {"status": error.status, "reason": error.reason}
        self._workers.pop(name).close()
