"""A small place far denser than all around it: recall there grows with ef_search, whatever was changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore

from .vectors import recall_by_distance

Rows = NDArray[np.float32]
INSIDE = 80
DIM = 128


def _rows(n: int, seed: int) -> tuple[Rows, Rows]:
    """n rows, of which 80 lie close around one of them. Queries from there, half of them stored."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n + 20, DIM)).astype(np.float32)
    rows[: INSIDE + 20] = rows[20] + 0.05 * rows[: INSIDE + 20]
    return rng.permutation(rows[20:]), rows[:40]


def _churn(index: embedcore.Index, rows: Rows, seed: int) -> None:
    """Replaces half of all items, some more than once, and removes a few and adds them again."""
    rng = np.random.default_rng(seed)
    for _ in range(20):
        ids = rng.choice(len(rows), len(rows) // 40, replace=False)
        index.add(ids, rows[ids], threads=1)
        index.remove(ids[:5])
        index.add(ids[:5], rows[ids[:5]], threads=1)
    index.compact()


def _recall(index: embedcore.Index, rows: Rows, queries: Rows, metric: Any, ef_search: int) -> float:
    truth = embedcore.exact_search(rows, queries, 10, metric)
    found = index.search(queries, 10, ef_search=ef_search)
    return recall_by_distance(found, truth)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("codes", ["none", "int8", "int4", "auto"])
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_a_dense_place_in_a_small_index(metric: Any, codes: Any, seed: int) -> None:
    rows, queries = _rows(1500, seed)
    index = embedcore.Index(DIM, metric, codes=codes)
    index.add(np.arange(len(rows)), rows, threads=1)
    for _ in range(2):  # fresh, then after churn, under cosine 0.8 to 0.9 before, however large ef was
        assert _recall(index, rows, queries, metric, 100) >= 0.98
        assert _recall(index, rows, queries, metric, 200) >= 0.99
        assert _recall(index, rows, queries, metric, len(rows)) >= 0.999
        _churn(index, rows, seed)


@pytest.mark.parametrize(("metric", "codes"), [("cosine", "none"), ("cosine", "int8"), ("l2", "int4")])
def test_a_dense_place_in_a_larger_index(metric: Any, codes: Any) -> None:
    rows, queries = _rows(20_000, 4)
    index = embedcore.Index(DIM, metric, codes=codes)
    index.add(np.arange(len(rows)), rows, threads=1)
    for _ in range(2):  # under cosine 0.6 to 0.8 before
        assert _recall(index, rows, queries, metric, 200) >= 0.98
        assert _recall(index, rows, queries, metric, 5000) >= 0.999
        _churn(index, rows, 5)
