"""Training codes anew, as an index grows or its vectors drift, is seen by nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import embedcore

from .dtypes import (
    few_kinds,
    least,
    metrics,
    recall_at_10,
    spread_out,
)
from .vectors import clustered, text


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


@pytest.mark.parametrize(("dtype", "codes"), [("float32", "auto"), ("float16", "auto"), ("int8", "auto")])
@pytest.mark.parametrize("scale", [3.0, 0.5])
def test_recall_on_text_survives_vectors_that_drift(dtype: Any, codes: Any, scale: float) -> None:
    """A thousand texts, then three times as many, shifted by as much as they are long, and scaled."""
    old, rows = text()[:1000], text()[1000:]
    towards = np.random.default_rng(40).standard_normal(384) / np.sqrt(384)
    drifted = (scale * (rows + towards)).astype(np.float32)
    index = embedcore.Index(384, "l2", dtype, codes, ef_construction=80)
    index.add(np.arange(1000), old)
    for first in range(0, 2900, 290):
        index.add(np.arange(1000 + first, 1290 + first), drifted[first : first + 290])
    base = np.concatenate([old, drifted[:2900]])
    for queries in (rows[2900:], drifted[2900:]):
        assert recall_at_10(index, base, queries) >= 0.95
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
