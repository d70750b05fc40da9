"""Adding, replacing, removing. What is refused: test_bad_input.py."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import embedcore

from .vectors import clustered


def _index(metric: str = "cosine") -> embedcore.Index:
    index = embedcore.Index(4, metric)
    index.add([1, 2, 3], np.eye(4, dtype=np.float32)[:3])
    return index


def test_adding_again_replaces() -> None:
    index = _index("l2")
    index.add([2, 5], np.array([[9, 9, 9, 9], [5, 5, 5, 5]], np.float32))
    assert len(index) == 4
    assert index.get(2).tolist() == [[9, 9, 9, 9]]
    found = index.search([9, 9, 9, 9], k=10)
    assert sorted(found.ids[found.ids >= 0].tolist()) == [1, 2, 3, 5]
    assert found.ids[0] == 2
    assert index.tombstones == 1
    assert index.tombstone_rate == pytest.approx(1 / 5)


def test_remove_counts_what_was_there() -> None:
    index = _index()
    assert index.remove([1, 99, -3, 1]) == 1
    assert index.remove([1]) == 0
    assert index.remove([]) == 0
    assert index.remove(2) == 1
    assert len(index) == 1
    assert 1 not in index
    assert index.search(np.ones(4), k=3).ids.tolist() == [3, -1, -1]
    assert index.tombstone_rate == pytest.approx(2 / 3)


def test_the_largest_id() -> None:
    index = embedcore.Index(4)
    largest = 2**63 - 1
    index.add([0, largest], np.eye(4)[:2])
    assert largest in index
    assert index.ids().tolist() == [0, largest]


def test_one_dimension_and_many() -> None:
    for dim in (1, 1000, 65535):
        index = embedcore.Index(dim, "l2")
        vectors = clustered(20, dim, 2, seed=5)
        index.add(np.arange(20), vectors)
        assert index.search(vectors[3], k=1).ids[0] == 3
        np.testing.assert_array_equal(index.get([7])[0], vectors[7])


def test_one_thread_builds_the_same_index_every_time() -> None:
    vectors = clustered(500, 16, 5, seed=6)

    def build(seed: int) -> Any:
        index = embedcore.Index(16, seed=seed)
        index.add(np.arange(500), vectors, threads=1)
        found = index.search(vectors, k=10, ef_search=10, stats=True)
        assert found.stats is not None
        return found.ids.tolist(), found.stats["distances"].tolist(), index.stats()["levels"]

    assert build(3) == build(3)
    assert build(3)[2] != build(4)[2]


def test_float32_input_is_used_in_place() -> None:
    vectors = np.random.default_rng(7).normal(size=(2000, 128)).astype(np.float32)  # 1 MB
    ids = np.arange(2000)
    index = embedcore.Index(128, ef_construction=10)
    out = (np.empty((2000, 1), np.int64), np.empty((2000, 1), np.float32))
    tracemalloc.start()
    index.add(ids, vectors, threads=1)
    index.search(vectors, k=1, ef_search=10, threads=1, out=out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < vectors.nbytes / 10
    assert (out[0][:, 0] == ids).mean() > 0.9
