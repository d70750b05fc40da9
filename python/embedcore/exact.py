"""Exact search, the ground truth that recall is measured against, and what was built."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from embedcore import _native
from embedcore.errors import InvalidArgument
from embedcore.index import METRICS, Metric, SearchResult
from embedcore.index_input import array_of, one_of, rows_of, whole

__all__ = ["build_info", "exact_search"]


def exact_search(
    base: ArrayLike, queries: ArrayLike, k: int, metric: Metric = "cosine", threads: int = 0
) -> SearchResult:
    """The exact k nearest rows of ``base`` (n, dim) for ``queries`` (q, dim) or (dim,): the ground truth.

    Ids are row numbers; equal distances are ordered by them. All cores by default, without the GIL.
    Raises ValueError as :meth:`Index.search` does.
    """
    kind = one_of(metric, "metric", METRICS)
    k = whole(k, "k", 1, 2**32 - 1)
    vectors = array_of(base, "base vectors")
    if vectors.ndim != 2 or not 1 <= vectors.shape[1] <= 65535:
        raise InvalidArgument(f"base has shape {vectors.shape}; it must be (n, dim) with dim 1 to 65535")
    rows, _ = rows_of(vectors, vectors.shape[1], "base")
    wanted, single = rows_of(queries, rows.shape[1], "queries")
    threads = whole(threads, "threads", 0, 65535)
    ids, distances = _native.exact_search(kind, rows, wanted, k, threads)
    return SearchResult(ids[0], distances[0]) if single else SearchResult(ids, distances)


def build_info() -> dict[str, Any]:
    """What was built: version, compiler, instruction sets compiled in ("isa_compiled"), the one in use
    ("isa", chosen once; EMBEDCORE_ISA forces one), and the data planes."""
    return {**_native.build_info(), "data_planes": ["grpcio"]}
