"""What every dtype and kind of codes promises, under every metric: what get gives back, distances of exactly
that, recall, snapshots, changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedcore

from .dtypes import (
    distances_of,
    few_kinds,
    kept,
    kinds,
    least,
    metrics,
    recall_at_10,
    spread_out,
    text_index,
)
from .vectors import clustered, text

# What is kept, and distances of it.


@metrics
@kinds
def test_get_and_distances(metric: Any, dtype: Any, codes: Any) -> None:
    vectors = clustered(600, 70, 8, seed=31) * np.float32(3.7)  # far from unit length
    vectors[5, 3:9] = [0, -0.0, 1e-7, -6e-8, 2.0**-24, 1 + 2.0**-11]
    index = embedcore.Index(70, metric, dtype, codes)
    index.add(np.arange(600), vectors)
    assert index.stats()["codes"]["trained_on"] == (0 if codes == "none" else 600)
    got = index.get(np.arange(600))
    if dtype == "int8":
        step = np.abs(vectors).max(axis=1, keepdims=True) / 127
        assert (np.abs(got - vectors) <= step * 0.50001).all()
        np.testing.assert_allclose(got / step, np.round(got / step), atol=1e-3)
    else:
        np.testing.assert_array_equal(got.view(np.uint32), kept(vectors, dtype).view(np.uint32))

    queries = clustered(25, 70, 8, seed=32)
    queries[:5] = vectors[:5]
    exact = distances_of(metric, queries, got)
    size = 1.0 if metric == "cosine" else float(np.abs(exact).max())
    found = index.search(queries, k=20, ef_search=100)
    expected = np.take_along_axis(exact, found.ids, axis=1)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-4, atol=1e-5 * size)
    assert (np.diff(found.distances) >= 0).all()
    for row in range(5):
        scores = index.scores(queries[row], np.arange(600))
        np.testing.assert_allclose(scores, exact[row], rtol=1e-4, atol=1e-5 * size)
        single = index.search(queries[row], k=20, ef_search=100)
        np.testing.assert_array_equal(single.ids, found.ids[row])
        np.testing.assert_array_equal(single.distances, scores[single.ids])

        radius = float(np.partition(exact[row], 40)[40])
        within = index.range_search(queries[row], radius, ef_search=600)
        edge = 1e-5 * size + 1e-4 * abs(radius)
        inside = np.flatnonzero(exact[row] <= radius - edge)
        around = np.flatnonzero(exact[row] <= radius + edge)
        assert set(inside) <= set(within.ids.tolist()) <= set(around)
        assert (within.distances <= radius).all()
        np.testing.assert_array_equal(within.distances, scores[within.ids])


@metrics
def test_float32_distances_are_exact_under_codes(metric: Any) -> None:
    # Whole numbers: every distance is exact, or off by the rounding of a division only.
    rng = np.random.default_rng(33)
    vectors = rng.integers(-9, 10, (900, 64)).astype(np.float32)
    vectors[:, 0] = 1
    for codes in ("int8", "int4"):
        index = embedcore.Index(64, metric, codes=codes)
        index.add(np.arange(900), vectors)
        found = index.search(vectors[:50], k=10, ef_search=200)
        exact = np.take_along_axis(distances_of(metric, vectors[:50], vectors), found.ids, axis=1)
        if metric == "cosine":
            np.testing.assert_allclose(found.distances, exact, rtol=1e-6, atol=3e-7)
        else:
            np.testing.assert_array_equal(found.distances, exact)
        assert (found.ids[:, 0] == np.arange(50)).all() or metric == "ip"


# Recall.


@kinds
def test_recall_on_text(dtype: Any, codes: Any) -> None:
    index = text_index("cosine", dtype, codes)
    assert recall_at_10(index, text()[:3900], text()[3900:]) >= 0.95


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_recall_on_text_under_other_metrics(metric: Any, dtype: Any) -> None:
    assert recall_at_10(text_index(metric, dtype, "auto"), text()[:3900], text()[3900:]) >= 0.95


@metrics
@few_kinds
def test_recall_on_clusters(metric: Any, dtype: Any, codes: Any) -> None:
    vectors = spread_out(2100, 100, 34, metric)
    index = embedcore.Index(100, metric, dtype, codes, ef_construction=60)
    index.add(np.arange(2000), vectors[:2000])
    # Against what is kept, as many neighbours lie closer together than lean rounding.
    assert recall_at_10(index, index.get(np.arange(2000)), vectors[2000:]) >= least(codes)
    assert index.check() == []


# Snapshots and determinism.


@metrics
@kinds
def test_a_snapshot_brings_everything_back(tmp_path: Path, metric: Any, dtype: Any, codes: Any) -> None:
    vectors = spread_out(900, 40, 35, metric)
    index = embedcore.Index(40, metric, dtype, codes, m=8, ef_construction=40, seed=3)
    index.add(np.arange(700), vectors[:700])
    index.remove(np.arange(0, 700, 7))
    index.add(np.arange(1, 100), vectors[1:100])
    index.save(tmp_path / "first", "a space", 7)
    loaded = embedcore.Index.load(tmp_path / "first")
    assert (loaded.metric, loaded.dtype, loaded.codes) == (metric, dtype, codes)
    assert loaded.stats()["codes"] == index.stats()["codes"]
    assert loaded.stats()["codes"]["trained_on"] == (0 if codes == "none" else 700)
    np.testing.assert_array_equal(loaded.ids(), index.ids())
    np.testing.assert_array_equal(loaded.get(loaded.ids()), index.get(index.ids()))
    for ef in (10, 64):
        before = index.search(vectors, k=5, ef_search=ef, stats=True)
        after = loaded.search(vectors, k=5, ef_search=ef, stats=True)
        np.testing.assert_array_equal(after.ids, before.ids)
        np.testing.assert_array_equal(after.distances, before.distances)
        assert before.stats is not None
        assert after.stats is not None
        np.testing.assert_array_equal(after.stats["distances"], before.stats["distances"])  # the same walk
    loaded.save(tmp_path / "second")
    assert (tmp_path / "second").read_bytes() == (tmp_path / "first").read_bytes()
    # It goes on as if it had never been away.
    for each in (index, loaded):
        each.add(np.arange(700, 900), vectors[700:], threads=1)
    assert loaded.check() == []
    np.testing.assert_array_equal(loaded.search(vectors, k=5).ids, index.search(vectors, k=5).ids)


@few_kinds
def test_a_snapshot_before_training(tmp_path: Path, dtype: Any, codes: Any) -> None:
    vectors = spread_out(600, 40, 36)
    index = embedcore.Index(40, "l2", dtype, codes)
    for n in (0, 1, 200):
        index.add(np.arange(n), vectors[:n])
        index.save(tmp_path / "few")
        index = embedcore.Index.load(tmp_path / "few")
        assert index.stats()["codes"] == {"kind": codes, "trained_on": 0, "step": 0.0, "error": 0.0}
        assert index.search(vectors, k=1).ids.shape == (600, 1)
    index.add(np.arange(200, 600), vectors[200:])
    assert index.stats()["codes"]["trained_on"] == (0 if codes == "none" else 600)
    assert recall_at_10(index, index.get(np.arange(600)), vectors[::10]) >= least(codes)
    assert index.check() == []


@kinds
def test_one_thread_builds_the_same_graph_every_time(tmp_path: Path, dtype: Any, codes: Any) -> None:
    vectors = clustered(1300, 70, 9, seed=37)

    def built(seed: int) -> bytes:
        index = embedcore.Index(70, "cosine", dtype, codes, m=8, ef_construction=40, seed=seed)
        for first in range(0, 1300, 260):  # trained at once, and again on the way
            rows = slice(first, first + 260)
            index.add(np.arange(1300)[rows], vectors[rows], threads=1)
        index.remove(np.arange(0, 1300, 9))
        index.add(np.arange(50), vectors[:50], threads=1)
        index.compact()
        index.save(tmp_path / "index")
        return (tmp_path / "index").read_bytes()

    assert built(1) == built(1)
    assert built(1) != built(2)


# Changes under codes.


@metrics
@few_kinds
def test_updates_removes_and_upkeep(metric: Any, dtype: Any, codes: Any) -> None:
    rng = np.random.default_rng(41)
    vectors = spread_out(4000, 48, 42, metric)
    queries = spread_out(60, 48, 43, metric)
    index = embedcore.Index(48, metric, dtype, codes, m=8, ef_construction=60)
    items: dict[int, int] = {}  # id -> row

    def compare() -> None:
        ids = np.array(sorted(items))
        np.testing.assert_array_equal(index.ids(), ids)
        base = index.get(ids)
        np.testing.assert_allclose(base, kept(vectors[[items[i] for i in ids.tolist()]], dtype), atol=1e-6)
        assert index.check() == []
        assert recall_at_10(index, base, queries, ids=ids) >= least(codes)

    for turn in range(5):
        ids = rng.choice(1500, 500, replace=False)
        rows = rng.choice(4000, 500)
        index.add(ids, vectors[rows])
        items.update(zip(ids.tolist(), rows.tolist(), strict=True))
        dead = rng.choice(1500, 120, replace=False)
        assert index.remove(dead) == sum(items.pop(i, None) is not None for i in dead.tolist())
        compare()
        if turn % 2 == 0:
            index.compact()
            assert index.tombstones == 0
            compare()
            index.relocate()
            assert index.stats()["slots"]["free"] == 0
            compare()
        else:
            index.repair()
            compare()
