"""Recall against exact search, on real text vectors and on clusters, for every metric."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore

from .vectors import clustered, recall, tight_clusters


def _recall_at_10(index: embedcore.Index, base: NDArray[np.float32], queries: NDArray[np.float32]) -> float:
    truth = embedcore.exact_search(base, queries, 10, index.metric)
    found = index.search(queries, 10, ef_search=100)
    # Distances of what was found in both lists are the same numbers, however they were reached.
    both = found.ids == truth.ids
    np.testing.assert_allclose(found.distances[both], truth.distances[both], rtol=1e-4, atol=1e-5)
    return recall(found.ids, truth.ids)


@pytest.mark.parametrize("threads", [1, 2])
def test_recall_on_text_vectors(text_vectors: NDArray[np.float32], threads: int) -> None:
    base, queries = text_vectors[:3700], text_vectors[3700:]
    index = embedcore.Index(384, "cosine")
    index.add(np.arange(3700), base, threads=threads)
    assert _recall_at_10(index, base, queries) >= 0.98
    assert index.check() == []


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_recall_on_clusters(metric: str) -> None:
    vectors = clustered(5200, 32, 60, seed=1)
    if metric == "ip":  # inner product is made for vectors of about one length
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    base, queries = vectors[:5000], vectors[5000:]
    index = embedcore.Index(32, metric)
    index.add(np.arange(5000), base)
    assert _recall_at_10(index, base, queries) >= 0.95
    assert index.check() == []


def test_coarse_codes_do_not_cap_recall_in_tight_clusters() -> None:
    """Members of a cluster are rounded alike, so that the codes err more than they do on average."""
    vectors = tight_clusters(4300, 384, 16, seed=3)
    base, queries = vectors[:4000], vectors[4000:]
    index = embedcore.Index(384, codes="int4")
    index.add(np.arange(4000), base)
    truth = embedcore.exact_search(base, queries, 10).ids
    assert recall(index.search(queries, 10, ef_search=400).ids, truth) >= 0.997


def test_the_early_stop_leaves_searches_alone_where_distances_crowd_together() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((12200, 128)).astype(np.float32)
    base, queries = vectors[:12000], vectors[12000:]
    index = embedcore.Index(128, metric="l2")
    index.add(np.arange(12000), base)
    truth = embedcore.exact_search(base, queries, 10, "l2").ids
    # Stopped by the local dimension alone it would be 0.68.
    assert recall(index.search(queries, 10, ef_search=100).ids, truth) >= 0.82


def test_recall_after_half_was_removed_and_compacted(text_vectors: NDArray[np.float32]) -> None:
    base, queries = text_vectors[:3700], text_vectors[3700:]
    index = embedcore.Index(384)
    index.add(np.arange(3700), base)
    kept = np.flatnonzero(np.random.default_rng(2).random(3700) < 0.5)
    index.remove(np.setdiff1d(np.arange(3700), kept))
    truth = kept[embedcore.exact_search(base[kept], queries, 10).ids]
    before = recall(index.search(queries, 10, ef_search=100).ids, truth)
    report = index.compact()
    after = recall(index.search(queries, 10, ef_search=100).ids, truth)
    assert report.freed == 3700 - len(kept)
    assert before >= 0.98
    assert after >= 0.98
    assert index.check() == []


def test_the_fast_preset_builds_cheaper_and_still_finds(text_vectors: NDArray[np.float32]) -> None:
    base, queries = text_vectors[:3700], text_vectors[3700:]
    index = embedcore.Index(384, preset="fast")
    assert index.ef_construction < embedcore.Index(384).ef_construction
    index.add(np.arange(3700), base)
    assert _recall_at_10(index, base, queries) >= 0.95


def test_more_ef_search_finds_more(text_vectors: NDArray[np.float32]) -> None:
    base, queries = text_vectors[:3700], text_vectors[3700:]
    index = embedcore.Index(384)
    index.add(np.arange(3700), base, threads=1)
    truth = embedcore.exact_search(base, queries, 10).ids
    narrow = index.search(queries, 10, ef_search=10, stats=True)
    wide = index.search(queries, 10, ef_search=300, stats=True)
    assert recall(narrow.ids, truth) < recall(wide.ids, truth)
    assert narrow.stats is not None
    assert wide.stats is not None
    assert (narrow.stats["distances"] < wide.stats["distances"]).all()
