"""What every dtype and kind of codes promises, under every metric: what get gives back, distances of exactly
that, recall, snapshots, and that training the codes anew is seen by nobody."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore
from embedcore.index import IdSet

from .conftest import DATA, clustered, recall

METRICS = ["cosine", "ip", "l2"]
KINDS = [
    (dtype, codes)
    for dtype in ("float32", "float16", "bfloat16", "int8")
    for codes in ("none", "int8", "int4")
    if not (dtype == "int8" and codes == "int8")  # is none
]
FEW_KINDS = [("float32", "int8"), ("float32", "int4"), ("int8", "none"), ("int8", "int4")]
kinds = pytest.mark.parametrize(("dtype", "codes"), KINDS, ids=["-".join(kind) for kind in KINDS])
few_kinds = pytest.mark.parametrize(("dtype", "codes"), FEW_KINDS, ids=["-".join(k) for k in FEW_KINDS])
metrics = pytest.mark.parametrize("metric", METRICS)


@functools.cache
def text() -> NDArray[np.float32]:
    return np.load(DATA / "wordnet-minilm-4000.f16.npy").astype(np.float32)


@functools.cache
def text_index(metric: str, dtype: str, codes: str) -> embedcore.Index:
    """Of the first 3,900 text vectors. Not to be written to."""
    index = embedcore.Index(384, metric, dtype, codes, ef_construction=80)
    index.add(np.arange(3900), text()[:3900])
    return index


def kept(vectors: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """The vectors rounded to the dtype, by numpy or by hand."""
    if dtype == "float32":
        return vectors
    if dtype == "float16":
        return vectors.astype(np.float16).astype(np.float32)
    if dtype == "bfloat16":
        bits = vectors.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    step = np.abs(vectors).max(axis=1, keepdims=True).astype(np.float64) / 127
    step[step == 0] = 1
    return (np.round(vectors / step) * step).astype(np.float32)


def distances_of(metric: str, queries: NDArray[Any], base: NDArray[Any]) -> NDArray[np.float64]:
    """(q, n), in double."""
    a, b = np.atleast_2d(queries).astype(np.float64), base.astype(np.float64)
    if metric == "l2":
        return ((a[:, None] - b[None]) ** 2).sum(axis=2)
    if metric == "cosine":
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        b /= np.linalg.norm(b, axis=1, keepdims=True)
    return 1 - a @ b.T


def spread_out(n: int, dim: int, seed: int, metric: str = "l2") -> NDArray[np.float32]:
    vectors = clustered(n, dim, 30, seed)
    if metric == "ip":  # which is made for vectors of about one length
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def recall_at_10(
    index: embedcore.Index, base: NDArray[Any], queries: NDArray[Any], ef: int = 100, ids: Any = None
) -> float:
    truth = embedcore.exact_search(base, queries, 10, index.metric).ids
    if ids is not None:
        truth = np.asarray(ids)[truth]
    return recall(index.search(queries, 10, ef_search=ef).ids, truth)


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


# Recall. Codes of 4 bits over few dimensions are coarse (codes="auto" takes them from 384 on), and here they
# are asked for by name.


def least(codes: str, fine: float = 0.95, coarse: float = 0.9) -> float:
    return coarse if codes == "int4" else fine


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


# Training.


@metrics
@few_kinds
def test_codes_are_trained_again_as_the_index_grows(metric: Any, dtype: Any, codes: Any) -> None:
    vectors = spread_out(4100, 70, 38, metric)
    index = embedcore.Index(70, metric, dtype, codes, ef_construction=60)
    trained: list[int] = []
    for first, end in ((0, 1), (1, 100), (100, 255), (255, 300), (300, 1100), (1100, 4000)):
        index.add(np.arange(first, end), vectors[first:end])
        trained.append(index.stats()["codes"]["trained_on"])
        if end >= 100:
            base = index.get(np.arange(end))
            assert recall_at_10(index, base, vectors[4000:]) >= least(codes, coarse=0.85), (first, end)
    assert index.check() == []
    if codes == "none":
        assert set(trained) == {0}
        return
    assert trained[:3] == [0, 0, 0]
    assert trained[3] == 300
    assert trained[-1] > 1000


@pytest.mark.parametrize("change", ["scaled", "shifted"])
@few_kinds
def test_recall_survives_vectors_that_drift(dtype: Any, codes: Any, change: str) -> None:
    vectors = spread_out(3100, 64, 39)
    drifted = vectors * np.float32(10) if change == "scaled" else vectors + np.float32(10)
    index = embedcore.Index(64, "l2", dtype, codes, ef_construction=80)
    index.add(np.arange(1500), vectors[:1500])
    before = index.stats()["codes"]
    for first in range(1500, 3000, 100):
        index.add(np.arange(first, first + 100), drifted[first : first + 100])
    base = index.get(np.arange(3000))
    for queries in (vectors[3000:], drifted[3000:]):
        assert recall_at_10(index, base, queries, ef=200) >= least(codes, 0.9, 0.85)
    if codes != "none":
        assert index.stats()["codes"]["step"] > 1.5 * before["step"]  # it was noticed
    assert index.check() == []


@few_kinds
def test_searching_while_codes_are_trained(dtype: Any, codes: Any) -> None:
    vectors = clustered(6000, 32, 20, seed=40)
    vectors[3000:] *= 10
    index = embedcore.Index(32, "l2", dtype, codes, m=8, ef_construction=40)
    index.add(np.arange(200), vectors[:200])
    lock = threading.Lock()
    gone = 0  # items 100 to gone - 1 were removed
    done = threading.Event()
    failures: list[BaseException] = []
    searches = found_themselves = 0

    def guarded(work: Callable[[np.random.Generator], None], seed: int) -> Callable[[], None]:
        def run() -> None:
            rng = np.random.default_rng(seed)
            try:
                while not done.is_set():
                    work(rng)
            except BaseException as error:
                failures.append(error)

        return run

    def search(rng: np.random.Generator) -> None:
        nonlocal searches, found_themselves
        removed = gone
        rows = rng.integers(0, 100, 20)  # never changed
        for queries in (vectors[rows], vectors[rows[0]]):
            found = index.search(queries, k=5, ef_search=300)
            ids = np.atleast_2d(found.ids)
            assert not ((ids >= 100) & (ids < removed)).any()
            assert (ids >= 0).all()
            assert all(len(set(row)) == 5 for row in ids.tolist())
            assert np.isfinite(found.distances).all()
            with lock:
                found_themselves += int((ids[:, 0] == np.atleast_1d(rows[: len(ids)])).sum())
                searches += len(ids)

    workers = [threading.Thread(target=guarded(search, seed)) for seed in range(2)]
    for worker in workers:
        worker.start()
    trained = set()
    for first in range(200, 6000, 200):
        index.add(np.arange(first, first + 200), vectors[first : first + 200], threads=1)
        trained.add(index.stats()["codes"]["step"])
        if first < 3000:
            index.remove(np.arange(100, first // 2))
            gone = first // 2
    done.set()
    for worker in workers:
        worker.join()
    assert not failures, failures[0]
    assert found_themselves >= 0.95 * searches > 0
    assert codes == "none" or len(trained) >= 3
    assert index.check() == []


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


# Filters.

BIG = 10_000


@functools.cache
def big() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    vectors = clustered(BIG + 30, 64, 60, seed=44)
    return vectors[:BIG], vectors[BIG:]


@functools.cache
def big_index(dtype: str, codes: str) -> embedcore.Index:
    index = embedcore.Index(64, "l2", dtype, codes, ef_construction=60)
    index.add(np.arange(BIG) * 3, big()[0])  # ids are not row numbers
    return index


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001, 0.0001])
@few_kinds
def test_filters_of_every_selectivity(dtype: Any, codes: Any, share: float) -> None:
    _, queries = big()
    index = big_index(dtype, codes)
    chosen = np.sort(np.random.default_rng(45).choice(BIG, round(share * BIG), replace=False))
    allowed = chosen * 3
    members = set(allowed.tolist())
    k = min(10, len(chosen))
    ranked = embedcore.exact_search(index.get(allowed), queries, k, "l2").ids
    truth = allowed[ranked]
    forms: list[Any] = [IdSet(allowed), allowed, allowed[::-1].astype(np.uint32), members.__contains__]
    for form in forms:
        if callable(form):  # thousands of calls of Python a query
            queries, truth = queries[:10], truth[:10]
        found = index.search(queries, 10, ef_search=100, filter=form, stats=True)
        assert recall(found.ids[:, :k], truth) >= 0.95
        assert (found.ids[:, k:] == -1).all()
        assert np.isposinf(found.distances[:, k:]).all()
        returned = found.ids[found.ids >= 0].tolist()
        assert set(returned) <= members
        one = index.search(queries[0], 10, ef_search=100, filter=form)
        np.testing.assert_array_equal(one.ids, found.ids[0])
        near = index.range_search(queries[:1], np.inf, ef_search=50, filter=form)
        assert set(near.ids[near.ids >= 0].tolist()) <= members


@few_kinds
def test_a_filter_of_what_lies_far_away(dtype: Any, codes: Any) -> None:
    base, queries = big()
    index = big_index(dtype, codes)
    for row in range(3):
        far = np.argsort(-distances_of("l2", queries[row : row + 1], base)[0])[:800]
        allowed = np.sort(far) * 3
        members = set(allowed.tolist())
        truth = allowed[embedcore.exact_search(index.get(allowed), queries[row : row + 1], 10, "l2").ids]
        listed = index.search(queries[row : row + 1], 10, ef_search=100, filter=allowed)
        assert set(listed.ids[0].tolist()) <= members
        assert recall(listed.ids, truth) >= 0.95
        # A callable lists nothing, so the walk has to go there; far away codes tell little apart.
        walked = index.search(queries[row : row + 1], 10, ef_search=100, filter=members.__contains__)
        assert set(walked.ids[0].tolist()) <= members
        assert codes != "none" or recall(walked.ids, truth) >= 0.9
