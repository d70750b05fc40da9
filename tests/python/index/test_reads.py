"""Shapes, padding and values of everything that reads."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore

from .vectors import clustered


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    return clustered(300, 8, 10, seed=3)


@pytest.fixture(scope="module")
def index(vectors: NDArray[np.float32]) -> embedcore.Index:
    index = embedcore.Index(8, "l2", seed=1)
    index.add(np.arange(300) * 10, vectors)
    return index


def test_shapes_of_results(index: embedcore.Index, vectors: NDArray[np.float32]) -> None:
    batch = index.search(vectors[:5], k=7)
    assert batch.ids.shape == batch.distances.shape == (5, 7)
    assert batch.ids.dtype == np.int64
    assert batch.distances.dtype == np.float32
    assert batch.stats is None
    single = index.search(vectors[0], k=7)
    assert single.ids.shape == single.distances.shape == (7,)
    assert single.ids[0] == 0
    np.testing.assert_array_equal(single.ids, batch.ids[0])
    empty = index.search(np.empty((0, 8), np.float32), k=3)
    assert empty.ids.shape == (0, 3)


def test_a_result_is_a_value(index: embedcore.Index, vectors: NDArray[np.float32]) -> None:
    found = index.search(vectors[0], k=2, stats=True)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.ids, found.ids)
    np.testing.assert_array_equal(again.distances, found.distances)
    assert again.stats.keys() == found.stats.keys()
    assert repr(found).startswith("SearchResult(ids=array([")
    with pytest.raises(AttributeError):
        found.other = 1  # type: ignore[attr-defined]


def test_stats_say_what_a_search_took(index: embedcore.Index, vectors: NDArray[np.float32]) -> None:
    for queries in (vectors[0], vectors[:1], vectors):
        began = time.perf_counter_ns()
        found = index.search(queries, k=5, stats=True)
        took = time.perf_counter_ns() - began
        assert found.stats is not None
        assert list(found.stats) == ["hops", "distances", "nanoseconds"]
        for values in found.stats.values():
            assert values.shape == (1 if queries.ndim == 1 else len(queries),)
            assert values.dtype == np.uint64
            assert (values > 0).all()
        assert (found.stats["hops"] < found.stats["distances"]).all()
        assert (found.stats["nanoseconds"] < took).all()
        plain = index.search(queries, k=5)
        np.testing.assert_array_equal(found.ids, plain.ids)
        np.testing.assert_array_equal(found.distances, plain.distances)
    for allowed in (np.arange(0, 3000, 20), lambda item: item % 20 == 0):
        filtered = index.search(vectors[:9], k=5, stats=True, filter=allowed)
        assert filtered.stats is not None
        assert all(values.shape == (9,) for values in filtered.stats.values())
        assert (filtered.stats["distances"] >= 5).all()
        assert (filtered.stats["nanoseconds"] > 0).all()
    nothing = index.search(vectors[:2], stats=True, filter=[])
    assert nothing.stats is not None
    assert nothing.stats["distances"].tolist() == [0, 0]


@pytest.mark.parametrize("threads", [0, 1, 2, 7])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 63, 64, 65, 300])
def test_a_batch_finds_what_its_queries_find(
    index: embedcore.Index, vectors: NDArray[np.float32], n: int, threads: int
) -> None:
    batch = index.search(vectors[:n], k=6, threads=threads)
    for row in range(n):
        one = index.search(vectors[row], k=6)
        np.testing.assert_array_equal(batch.ids[row], one.ids)
        np.testing.assert_array_equal(batch.distances[row], one.distances)
    assert (batch.ids[:, 0] == np.arange(n) * 10).all()


def test_fewer_than_k_is_padded(vectors: NDArray[np.float32]) -> None:
    index = embedcore.Index(8)
    nothing = index.search(vectors[0], k=3)
    assert nothing.ids.tolist() == [-1, -1, -1]
    assert np.isinf(nothing.distances).all()
    index.add([5, 6], vectors[:2])
    found = index.search(vectors[:1], k=4)
    assert found.ids.tolist() == [[5, 6, -1, -1]]
    assert np.isfinite(found.distances[0, :2]).all()
    assert np.isposinf(found.distances[0, 2:]).all()


def test_ef_below_k_is_raised(index: embedcore.Index, vectors: NDArray[np.float32]) -> None:
    found = index.search(vectors[:3], k=50, ef_search=1)
    assert (found.ids >= 0).all()
    assert (np.diff(found.distances, axis=1) >= 0).all()


def test_out_is_filled_and_returned(index: embedcore.Index, vectors: NDArray[np.float32]) -> None:
    ids = np.full((4, 3), 99, dtype=np.int64)
    distances = np.full((4, 3), 99, dtype=np.float32)
    found = index.search(vectors[:4], k=3, out=(ids, distances))
    assert found.ids is ids
    assert found.distances is distances
    np.testing.assert_array_equal(ids, index.search(vectors[:4], k=3).ids)


def test_distances_are_those_of_the_metric(vectors: NDArray[np.float32]) -> None:
    query = vectors[7].astype(np.float64)
    exact = vectors.astype(np.float64)
    expected = {
        "cosine": 1 - exact @ query / np.linalg.norm(exact, axis=1) / np.linalg.norm(query),
        "ip": 1 - exact @ query,
        "l2": ((exact - query) ** 2).sum(axis=1),
    }
    for metric, distances in expected.items():
        index = embedcore.Index(8, metric)
        index.add(np.arange(300), vectors)
        found = index.search(vectors[7], k=300, ef_search=300)
        assert sorted(found.ids.tolist()) == list(range(300))
        np.testing.assert_allclose(found.distances, distances[found.ids], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(index.scores(vectors[7], found.ids), found.distances, rtol=1e-6, atol=1e-6)


def test_scores_of_absent_ids_are_nan(index: embedcore.Index, vectors: NDArray[np.float32]) -> None:
    scores = index.scores(vectors[1], [10, 11, -4, 10])
    assert scores.dtype == np.float32
    assert np.isnan(scores).tolist() == [False, True, True, False]
    assert scores[0] == 0
    assert index.scores(vectors[1], []).shape == (0,)


def test_get_returns_what_was_added() -> None:
    vectors = clustered(50, 5, 3, seed=4) * 7  # far from unit length
    for metric in ("cosine", "ip", "l2"):
        index = embedcore.Index(5, metric)
        index.add(np.arange(50), vectors)
        np.testing.assert_array_equal(index.get(np.arange(50)[::-1]), vectors[::-1])
        assert index.get([]).shape == (0, 5)
        with pytest.raises(KeyError, match="id 50 is not in the index"):
            index.get([0, 50, 51])


def test_contains_len_ids(index: embedcore.Index) -> None:
    assert len(index) == 300
    assert 10 in index
    assert np.int64(10) in index
    for absent in (11, -1, 2**63, 2**70, "10", 10.0, None):
        assert absent not in index
    assert index.ids().dtype == np.int64
    np.testing.assert_array_equal(index.ids(), np.arange(300) * 10)


def test_range_search(index: embedcore.Index, vectors: NDArray[np.float32]) -> None:
    distances = ((vectors[:, None] - vectors[None, :3]) ** 2).sum(axis=2)
    radius = float(np.partition(distances[:, 0], 20)[20])
    found = index.range_search(vectors[0], radius, ef_search=300)
    within = np.flatnonzero(distances[:, 0] <= radius * 0.9999) * 10
    assert set(within) <= set(found.ids.tolist())
    assert (found.distances <= radius).all()
    batch = index.range_search(vectors[:3], radius, ef_search=300)
    assert batch.ids.shape == batch.distances.shape
    for row in range(3):
        one = index.range_search(vectors[row], radius, ef_search=300)
        count = len(one.ids)
        np.testing.assert_array_equal(batch.ids[row, :count], one.ids)
        assert (batch.ids[row, count:] == -1).all()
        assert np.isposinf(batch.distances[row, count:]).all()
    assert index.range_search(vectors[0], -1.0).ids.shape == (0,)
    assert len(index.range_search(vectors[0], np.inf).ids) == 300
    assert index.range_search(vectors[0], np.inf, filter=[20, 30]).ids.tolist() == [
        i for i in index.search(vectors[0], k=300, ef_search=300).ids if i in (20, 30)
    ]


def test_a_filter_may_be_an_array_a_set_or_a_callable(
    index: embedcore.Index, vectors: NDArray[np.float32]
) -> None:
    from embedcore.index import IdSet

    allowed = np.arange(0, 3000, 70)
    truth = allowed[embedcore.exact_search(vectors[allowed // 10], vectors[:6], 8, "l2").ids]
    id_set = IdSet(allowed)
    assert len(id_set) == len(allowed)
    assert 70 in id_set
    for allow in (allowed, allowed[::-1].astype(np.int32), list(allowed), id_set, lambda i: i % 70 == 0):
        found = index.search(vectors[:6], k=8, ef_search=100, filter=allow)
        np.testing.assert_array_equal(found.ids, truth)
    nothing = index.search(vectors[:6], k=8, filter=np.empty(0, np.int64))
    assert (nothing.ids == -1).all()
    unknown = index.search(vectors[:6], k=8, filter=[1, 2, 3])
    assert (unknown.ids == -1).all()


def test_a_filter_may_use_the_index(index: embedcore.Index, vectors: NDArray[np.float32]) -> None:
    found = index.search(vectors[:2], k=3, filter=lambda i: i in index and index.get(i)[0, 0] > 0)
    assert (index.get(found.ids.ravel())[:, 0] > 0).all()
