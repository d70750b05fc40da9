"""The smallest ef_search that is enough, per consumer and generation, and what it costs in latency.

Enough: recall against exact search on the consumer's golden queries is at least its ``index_recall`` with 95%
confidence. Breadths are tested from the widest down and the first that fails ends the search: tested in an
order fixed beforehand, each at the full level, the chosen one is too narrow in at most 5% of calibrations
(fixed-sequence testing; Angelopoulos, Bates, Candes, Jordan & Lei, "Learn then Test", arXiv:2110.01052).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embedcore.errors import FailedPrecondition
from embedcore.evaluation.evaluator import Evaluator
from embedcore.evaluation.exact import index_recall
from embedcore.evaluation.interface import Floats, Lists, Progress, SearchBackend
from embedcore.evaluation.quantiles import t_quantile
from embedcore.evaluation.resolve import ResolvedGolden
from embedcore.evaluation.significance import CONFIDENCE, MIN_QUERIES
from embedcore.types import Consumer, Generation, Vectors

EF_QUERIES = 1_000
CEILING = 1_024
_STEPS = 4  # breadths per doubling
_TIMED = 200  # queries, one at a time

Timer = Callable[[], float]  # seconds


@dataclass(frozen=True)
class EfPoint:
    """``lower``: one-sided 95% bound of the recall. Latency: one query a call, search alone, milliseconds."""

    ef_search: int
    recall: float
    lower: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class EfCalibration:
    """``ef_search`` None: not even the widest reaches the target. ``now``: what the consumer has today."""

    consumer: str
    generation: int
    target: float
    ef_search: int | None
    now: EfPoint
    chosen: EfPoint | None
    tested: tuple[EfPoint, ...]  # from the widest down; the last one failed, unless all passed
    queries: int
    golden_digest: str
    at: float

    def to_document(self) -> dict[str, Any]:
        return asdict(self)


def lower_bound(recall: Floats) -> float:
    """One-sided 95% bound of a mean recall. In the variance alone one query that found nothing is added, so
    that a sample without a miss does not have a bound of 1."""
    error = float(np.std(np.append(recall, 0.0), ddof=1)) / math.sqrt(len(recall))
    return float(recall.mean() - t_quantile(CONFIDENCE, len(recall) - 1) * error)


def breadths(k: int, ceiling: int = CEILING) -> list[int]:
    """From the widest down to k, four per doubling."""
    top = max(k, ceiling)
    steps = math.ceil(_STEPS * math.log2(top / k)) if top > k else 0
    return sorted({max(k, round(top / 2 ** (step / _STEPS))) for step in range(steps + 1)}, reverse=True)


def calibrate_ef(
    evaluator: Evaluator,
    consumer: Consumer,
    generation: Generation,
    resolved: ResolvedGolden,
    progress: Progress,
    *,
    ceiling: int = CEILING,
    timer: Timer = time.perf_counter,
) -> EfCalibration:
    """FailedPrecondition below 30 queries: a bound would mean little."""
    if len(resolved) < MIN_QUERIES:
        raise FailedPrecondition(
            f"consumer {consumer.name!r}: {len(resolved)} golden queries are too few to calibrate ef_search; "
            f"at least {MIN_QUERIES} are needed"
        )
    vectors = evaluator.query_vectors(generation, resolved, progress)
    truth = evaluator.truth(consumer, generation, resolved, progress)

    def measure(ef: int) -> EfPoint:
        return measure_point(evaluator.backend, generation.number, vectors, truth, consumer.k, ef, timer)

    wanted = breadths(consumer.k, ceiling)
    tested: list[EfPoint] = []
    chosen: EfPoint | None = None
    for step, ef in enumerate(wanted):
        point = measure(ef)
        tested.append(point)
        progress(f"{consumer.name}: ef_search {ef}", step + 1, len(wanted))
        if point.lower < consumer.index_recall:
            break
        chosen = point
    return EfCalibration(
        consumer=consumer.name,
        generation=generation.number,
        target=consumer.index_recall,
        ef_search=None if chosen is None else chosen.ef_search,
        now=measure(max(consumer.k, consumer.ef_for(generation.number))),
        chosen=chosen,
        tested=tuple(tested),
        queries=len(resolved),
        golden_digest=resolved.digest,
        at=evaluator.clock.now(),
    )


def curve(
    evaluator: Evaluator,
    consumer: Consumer,
    generation: Generation,
    resolved: ResolvedGolden,
    progress: Progress,
    efs: Sequence[int],
    timer: Timer = time.perf_counter,
) -> list[EfPoint]:
    """Recall against exact search and latency at each breadth."""
    vectors = evaluator.query_vectors(generation, resolved, progress)
    truth = evaluator.truth(consumer, generation, resolved, progress)
    number = generation.number
    return [measure_point(evaluator.backend, number, vectors, truth, consumer.k, ef, timer) for ef in efs]


def measure_point(
    backend: SearchBackend,
    generation: int,
    vectors: Vectors,
    truth: Lists,
    k: int,
    ef: int,
    timer: Timer,
) -> EfPoint:
    """``truth``: exact lists (q, k) of ``vectors`` (q, dim)."""
    recall = index_recall(backend.search_generation(generation, vectors, k, ef), truth)
    spent = []
    for row in range(min(_TIMED, len(vectors))):
        began = timer()
        backend.search_generation(generation, vectors[row : row + 1], k, ef)
        spent.append((timer() - began) * 1e3)
    p50, p95 = np.quantile(spent, [0.5, 0.95])
    return EfPoint(ef, float(recall.mean()), lower_bound(recall), float(p50), float(p95))
