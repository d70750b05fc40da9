"""The native per-consumer counters as plain data: counts, and quantiles from the latency histogram."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedcore import _native

QUANTILES = (0.50, 0.95, 0.99)


class Counters(Protocol):
    @property
    def queries(self) -> int: ...
    @property
    def empty(self) -> int: ...
    @property
    def partial(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def latency_sum_s(self) -> float: ...
    @property
    def latency_counts(self) -> NDArray[np.uint64]: ...


def summarise(counters: Counters) -> dict[str, Any]:
    """Counts since the start, and p50/p95/p99 of the native search in milliseconds (None before the first).

    A quantile is the upper end of its bucket: at most one bucket's width too large.
    """
    summary: dict[str, Any] = {
        "queries": counters.queries,
        "empty": counters.empty,
        "partial": counters.partial,
        "errors": counters.errors,
    }
    counts = np.cumsum(counters.latency_counts)
    total = int(counts[-1]) if len(counts) else 0
    ends = _native.latency_bucket_ends()
    for q in QUANTILES:
        bucket = int(np.searchsorted(counts, q * total)) if total else 0
        summary[f"p{q * 100:.0f}_ms"] = float(ends[bucket]) * 1e3 if total else None
    return summary
