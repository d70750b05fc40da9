"""Data for which codes are coarse: recall reaches what the graph allows, given a large enough ef_search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore

from .vectors import recall_by_distance

Rows = NDArray[np.float32]
QUERIES = 200


def _few_dimensions(dim: int) -> tuple[Rows, Rows]:
    """Normal; with 4 bits a value many items share a code, and errors do not even out."""
    rows = np.random.default_rng(1).standard_normal((10_000 + QUERIES, dim)).astype(np.float32)
    return rows[QUERIES:], rows[:QUERIES]


def _two_scales(dim: int) -> tuple[Rows, Rows]:
    """Every other item is 20 times as long as the rest, and one step has to do for both. Short queries."""
    rows = np.random.default_rng(2).standard_normal((10_000 + 2 * QUERIES, dim)).astype(np.float32)
    rows[::2] *= 20
    return rows[2 * QUERIES :], rows[1 : 2 * QUERIES : 2]


def _small_cluster(dim: int) -> tuple[Rows, Rows]:
    """1,000 items close together inside of a cloud of 20,000. Queries from the small one."""
    rng = np.random.default_rng(3)
    cloud = rng.standard_normal((20_000, dim))
    cluster = rng.standard_normal(dim) + 0.05 * rng.standard_normal((1_000 + QUERIES, dim))
    base = rng.permutation(np.concatenate([cloud, cluster[QUERIES:]]))
    return base.astype(np.float32), cluster[:QUERIES].astype(np.float32)


def _recall(data: tuple[Rows, Rows], metric: Any, codes: Any, ef_search: int) -> float:
    base, queries = data
    index = embedcore.Index(base.shape[1], metric, codes=codes)
    index.add(np.arange(len(base)), base, threads=1)
    truth = embedcore.exact_search(base, queries, 10, metric)
    found = index.search(queries, 10, ef_search=ef_search)
    return recall_by_distance(found, truth)


# What it was while reranking stopped at what the error of the codes on average leaves in doubt: in brackets.
@pytest.mark.parametrize(
    ("metric", "dim", "ef_search", "least"),
    [
        ("cosine", 3, 1000, 0.999),
        ("cosine", 8, 1000, 0.998),  # (0.995)
        ("cosine", 32, 1000, 0.998),  # (0.995)
        ("ip", 8, 1000, 0.98),  # (0.965)
        ("ip", 8, 10_000, 0.999),  # (0.965)
        ("l2", 8, 1000, 0.999),
    ],
)
def test_int4_of_few_dimensions(metric: str, dim: int, ef_search: int, least: float) -> None:
    assert _recall(_few_dimensions(dim), metric, "int4", ef_search) >= least


def test_int4_of_two_scales() -> None:
    assert _recall(_two_scales(16), "l2", "int4", 400) >= 0.96  # 0.9 by codes alone


@pytest.mark.parametrize(("dim", "metric"), [(32, "l2"), (32, "cosine"), (100, "cosine")])
def test_a_small_cluster_inside_of_a_cloud(dim: int, metric: str) -> None:
    data = _small_cluster(dim)
    assert _recall(data, metric, "none", 400) >= 0.99
    assert _recall(data, metric, "int8", 400) >= 0.97  # 0.65 and 0.73 by codes alone, under cosine


@pytest.mark.parametrize("dim", [8, 64, 384])
def test_auto_is_as_good_as_none_on_two_scales(dim: int) -> None:
    data = _two_scales(dim)
    assert _recall(data, "l2", "auto", 400) >= _recall(data, "l2", "none", 400) - 0.01


def _recall_in_a_dense_place(metric: Any, codes: Any, seed: int) -> float:
    """250 of 5,000 items at a twentieth of the scale of the rest; queries among them, narrow searches."""
    rng = np.random.default_rng(seed)
    base = rng.standard_normal((5_000, 128)).astype(np.float32)
    place = rng.choice(len(base), 250, replace=False)
    base[place] = base[place[0]] + 0.05 * base[place]
    queries = base[place[0]] + 0.05 * rng.standard_normal((100, 128)).astype(np.float32)
    return _recall((base, queries), metric, codes, 20)


# Unbalanced roundings (code_grid.h) leave 0.88 and 0.32 under cosine (no codes: 0.93 and 0.64), and
# 0.42 and 0.28 of the inner product.
@pytest.mark.parametrize("seed", [0, 2])
def test_a_narrow_search_in_a_dense_place(seed: int) -> None:
    without = _recall_in_a_dense_place("cosine", "none", seed)
    assert _recall_in_a_dense_place("cosine", "int8", seed) >= without - 0.03
    assert _recall_in_a_dense_place("ip", "int4", seed) >= 0.9
