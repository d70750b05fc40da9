"""From one dimension to the most, under every metric, dtype and kind of codes: add, search, change, save.

ef_search covers the whole index, so that what is missed was lost by ranking or by the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedcore

from .dtypes import kinds, metrics
from .vectors import clustered

ITEMS = 300  # enough for codes to be trained


def _check(index: embedcore.Index, queries: Any, codes: str) -> None:
    """Distances are compared, not ids: in one dimension many are equal."""
    ids = index.ids()
    truth = embedcore.exact_search(index.get(ids), queries, 5, index.metric)
    found = index.search(queries, k=5, ef_search=2 * ITEMS)
    assert np.isin(found.ids, ids).all()
    size = max(1.0, float(np.abs(truth.distances).max()))
    same = np.abs(found.distances - truth.distances) <= 1e-4 * size
    assert same.mean() >= (0.9 if codes == "int4" else 1.0)  # int4 is coarse where dimensions are few
    assert index.check() == []


@metrics
@kinds
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_few_dimensions(tmp_path: Path, metric: Any, dtype: Any, codes: Any, dim: int) -> None:
    vectors = clustered(ITEMS + 20, dim, 6, seed=120)
    index = embedcore.Index(dim, metric, dtype, codes)
    index.add(np.arange(ITEMS), vectors[:ITEMS])
    assert index.stats()["codes"]["trained_on"] == (0 if codes == "none" else ITEMS)
    queries = vectors[ITEMS:]
    _check(index, queries, codes)
    index.remove(np.arange(0, ITEMS, 3))
    index.add([1, 2], vectors[ITEMS : ITEMS + 2])
    _check(index, queries, codes)
    index.compact()
    index.save(tmp_path / "index")
    for mmap in (False, True):
        loaded = embedcore.Index.load(tmp_path / "index", mmap=mmap)
        np.testing.assert_array_equal(loaded.get(loaded.ids()), index.get(index.ids()))
        np.testing.assert_array_equal(loaded.search(queries, k=5).ids, index.search(queries, k=5).ids)
        _check(loaded, queries, codes)


@pytest.mark.parametrize(("dtype", "codes"), [("float32", "int8"), ("float16", "int4"), ("int8", "none")])
def test_the_most_dimensions(dtype: Any, codes: Any) -> None:
    vectors = clustered(260, 65535, 4, seed=121)
    index = embedcore.Index(65535, "cosine", dtype, codes, ef_construction=20)
    index.add(np.arange(260), vectors)
    assert index.stats()["codes"]["trained_on"] == (0 if codes == "none" else 260)
    found = index.search(vectors[:5], k=1, ef_search=300)
    assert found.ids.ravel().tolist() == list(range(5))
    np.testing.assert_allclose(found.distances, 0, atol=1e-3)


@pytest.mark.parametrize("dim", [65_536, 100_000])
def test_more_dimensions_than_the_most_are_refused(dim: int) -> None:
    rows = np.ones((2, dim), np.float32)
    with pytest.raises(ValueError, match=f"dim is {dim}; it must be 1 to 65535"):
        embedcore.Index(dim)
    with pytest.raises(ValueError, match=rf"base has shape \(2, {dim}\)"):
        embedcore.exact_search(rows, rows, 1)
