"""Distances, recall, filters and threads of Index and BFIndex, against double precision."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import embedcore.index
from embedcore.compat import hnswlib as ours

from .conftest import SPACES, distances, made, recall, vectors


@pytest.mark.parametrize("space", SPACES)
def test_distances_are_those_of_the_space(module: ModuleType, space: str) -> None:
    data, queries = vectors(60, 7, seed=20) * 3, vectors(9, 7, seed=21) * 5
    index = made(module, space, 7, 60)
    index.set_ef(60)
    index.add_items(data)
    labels, found = index.knn_query(queries, k=60)
    exact = distances(space, queries, data)
    np.testing.assert_allclose(found, np.take_along_axis(exact, labels.astype(int), 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found, np.sort(exact, axis=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("space", SPACES)
def test_recall(module: ModuleType, space: str) -> None:
    data, queries = vectors(2000, 16, seed=22), vectors(100, 16, seed=23)
    index = made(module, space, 16, 2000)
    labels = np.random.default_rng(24).permutation(10_000)[:2000]
    index.add_items(data, labels, num_threads=2)
    index.set_ef(100)
    found, _ = index.knn_query(queries, k=10, num_threads=2)
    assert recall(found, distances(space, queries, data), labels) > 0.95


def test_a_wider_ef_finds_more(module: ModuleType) -> None:
    data, queries = vectors(3000, 32, seed=25), vectors(100, 32, seed=26)
    index = made(module, "l2", 32, 3000, M=8, ef_construction=60)
    index.add_items(data, num_threads=2)
    exact = distances("l2", queries, data)
    at_default = recall(index.knn_query(queries, k=10)[0], exact)
    index.set_ef(300)
    assert recall(index.knn_query(queries, k=10)[0], exact) > max(at_default, 0.95)


def test_one_query_and_many_find_the_same(module: ModuleType) -> None:
    data = vectors(500, 12, seed=27)
    index = made(module, "cosine", 12, 500)
    index.set_ef(50)
    index.add_items(data)
    labels, found = index.knn_query(data[:40], k=5, num_threads=4)
    for row in range(40):
        alone, distance = index.knn_query(data[row], k=5)
        np.testing.assert_array_equal(alone[0], labels[row])
        np.testing.assert_allclose(distance[0], found[row], atol=1e-6)


def test_one_seed_builds_one_graph(module: ModuleType) -> None:
    data, queries = vectors(800, 24, seed=28), vectors(60, 24, seed=29)
    found = []
    for _ in range(2):
        index = made(module, "l2", 24, 800, M=4, ef_construction=10, random_seed=7)
        index.add_items(data)
        found.append(index.knn_query(queries, k=8))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("kind", ["Index", "BFIndex"])
@pytest.mark.parametrize("space", SPACES)
def test_filters(module: ModuleType, kind: str, space: str) -> None:
    data, queries = vectors(400, 8, seed=30), vectors(20, 8, seed=31)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    index = getattr(module, kind)(space, 8)
    index.init_index(400)
    index.add_items(data)
    if kind == "Index":
        index.set_ef(400)
    seen: set[type] = set()

    def even(label: int) -> bool:
        seen.add(type(label))
        return label % 2 == 0

    labels, found = index.knn_query(queries, k=6, num_threads=1, filter=even)
    assert seen == {int}
    assert (labels % 2 == 0).all()
    exact = distances(space, queries, data[::2])
    np.testing.assert_allclose(found, np.sort(exact, axis=1)[:, :6], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["Index", "BFIndex"])
def test_an_id_set_is_a_filter(kind: str) -> None:
    index = getattr(ours, kind)("l2", 8)
    index.init_index(400)
    index.add_items(vectors(400, 8, seed=32))
    query = vectors(5, 8, seed=33)
    allowed = embedcore.index.IdSet(np.arange(100, 120))
    labels, found = index.knn_query(query, k=20, filter=allowed)
    assert (np.sort(labels, axis=1) == np.arange(100, 120)).all()
    np.testing.assert_array_equal(index.knn_query(query, k=20, filter=lambda a: 100 <= a < 120)[1], found)


@pytest.mark.parametrize("threads", [-1, 0, 1, 3, 100_000])
def test_any_number_of_threads_finds_the_same(threads: int) -> None:
    data = vectors(300, 6, seed=34)
    index = made(ours, "l2", 6, 300)
    index.add_items(data)
    expected = index.knn_query(data, k=3)
    np.testing.assert_array_equal(index.knn_query(data, k=3, num_threads=threads)[0], expected[0])
    index.num_threads = threads
    np.testing.assert_array_equal(index.knn_query(data, k=3)[0], expected[0])


@pytest.mark.parametrize("length", [1e-18, 1e-6, 1, 1e6, 1e18])
def test_the_length_of_a_query_does_not_matter_under_cosine(length: float) -> None:
    data = vectors(50, 6, seed=35)
    index = made(ours, "cosine", 6, 50)
    index.add_items(data * np.float32(length))
    for queries in (data[:1], data):
        labels, found = index.knn_query(queries * np.float32(length), k=1)
        assert labels.ravel().tolist() == list(range(len(queries)))
        np.testing.assert_allclose(found, 0, atol=1e-6)
