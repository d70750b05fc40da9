"""Exact search and build_info."""

from __future__ import annotations

import numpy as np
import pytest

import embedcore

from .vectors import clustered


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("threads", [1, 3])
def test_exact_search_agrees_with_numpy(metric: str, threads: int) -> None:
    base = clustered(700, 17, 9, seed=8)
    queries = clustered(40, 17, 9, seed=9)
    a, b = queries.astype(np.float64), base.astype(np.float64)
    if metric == "l2":
        expected = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    else:
        if metric == "cosine":
            a /= np.linalg.norm(a, axis=1, keepdims=True)
            b /= np.linalg.norm(b, axis=1, keepdims=True)
        expected = 1 - a @ b.T
    found = embedcore.exact_search(base, queries, 10, metric, threads=threads)
    np.testing.assert_allclose(found.distances, np.sort(expected, axis=1)[:, :10], rtol=1e-4, atol=1e-5)
    at = np.take_along_axis(expected, found.ids, axis=1)
    np.testing.assert_allclose(found.distances, at, rtol=1e-4, atol=1e-5)


def test_shapes_and_padding() -> None:
    base = np.eye(3, dtype=np.float32)
    single = embedcore.exact_search(base, base[1], 5)
    assert single.ids.tolist() == [1, 0, 2, -1, -1]
    assert np.isposinf(single.distances[3:]).all()
    assert embedcore.exact_search(base, base, 2).ids.shape == (3, 2)
    assert embedcore.exact_search(base, np.empty((0, 3)), 2).ids.shape == (0, 2)
    assert embedcore.exact_search(np.empty((0, 3)), base, 2).ids.tolist() == [[-1, -1]] * 3


@pytest.mark.parametrize(
    ("base", "queries", "k", "metric", "message"),
    [
        (np.ones(3), np.ones(3), 1, "l2", "base has shape"),
        (np.ones((2, 0)), np.ones((2, 0)), 1, "l2", "base has shape"),
        (None, np.ones(3), 1, "l2", "base has shape"),
        ([[1, 2], [3]], np.ones(3), 1, "l2", "base vectors make no array"),
        ([["a", "b"]], np.ones(2), 1, "l2", "base have dtype <U1"),
        (np.ones((2, 3)), [[1, 2], [3]], 1, "l2", "queries make no array"),
        (np.ones((2, 3)), np.zeros(3), 1, "cosine", "query 0 is zero"),
        (np.ones((2, 3)), np.ones((2, 3)), -1, "l2", "k is -1"),
        (np.ones((2, 3)), np.ones((2, 3)), 1.5, "l2", "k is 1.5"),
        (np.ones((2, 3)), np.ones((2, 4)), 1, "l2", "queries have shape"),
        (np.ones((2, 3)), np.ones((2, 3)), 0, "l2", "k is 0"),
        (np.ones((2, 3)), np.ones((2, 3)), 1, "hamming", "metric is 'hamming'"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), 1, "l2", "base vector 0 holds NaN"),
        (np.ones((2, 3)), np.full((2, 3), np.inf), 1, "l2", "query 0 holds an infinite"),
        (np.zeros((2, 3)), np.ones((2, 3)), 1, "cosine", "base vector 0 is zero"),
    ],
)
def test_bad_input_is_refused(base: object, queries: object, k: int, metric: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        embedcore.exact_search(base, queries, k, metric)
    assert message in str(caught.value)


def test_build_info_says_what_was_built() -> None:
    info = embedcore.build_info()
    assert info["isa"] in info["isa_compiled"]
    assert info["isa_compiled"][0] == "scalar"
    assert info["data_planes"] == ["grpcio"]
    assert info["version"]
    assert info["compiler"]
