"""BFIndex, against double precision."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from embedcore.compat import hnswlib as ours

from .conftest import SPACES, distances, vectors


@pytest.mark.parametrize("space", SPACES)
def test_search_is_exact(module: ModuleType, space: str) -> None:
    data, queries = vectors(300, 9, seed=80), vectors(30, 9, seed=81)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)  # hnswlib leaves them as they are under cosine
    index = module.BFIndex(space=space, dim=9)
    assert repr(index) == f"<hnswlib.BFIndex(space='{space}', dim=9)>"
    index.init_index(max_elements=300)
    index.set_num_threads(2)
    assert index.num_threads == 2
    index.add_items(data, ids=np.arange(300) * 3)
    assert (index.get_current_count(), index.get_max_elements()) == (300, 300)
    labels, found = index.knn_query(queries, k=12)
    assert (labels.dtype, found.dtype) == (np.uint64, np.float32)
    assert labels.shape == found.shape == (30, 12)
    exact = distances(space, queries, data)
    np.testing.assert_allclose(found, np.sort(exact, axis=1)[:, :12], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(labels, np.argsort(exact, axis=1)[:, :12] * 3)
    assert index.knn_query(queries[0])[0].shape == (1, 1)
    assert index.knn_query(queries, k=0)[0].shape == (30, 0)


def test_deleting_and_replacing(module: ModuleType) -> None:
    data = vectors(40, 5, seed=82)
    index = module.BFIndex("l2", 5)
    index.init_index(30)
    index.add_items(data[:30])
    for label in range(5):
        index.delete_vector(label)
    index.delete_vector(777)
    assert index.get_current_count() == 25
    index.add_items(data[30:33], [10, 0, 1])
    assert index.get_current_count() == 27
    labels, found = index.knn_query(data[30:33], k=1)
    assert labels.ravel().tolist() == [10, 0, 1]
    np.testing.assert_allclose(found, 0, atol=1e-6)
    assert index.knn_query(data[10])[1][0, 0] > 0.01
    with pytest.raises(RuntimeError, match="exceeds the specified limit"):
        index.add_items(data[33:37], [50, 51, 52, 53])


def test_refusals(module: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="must be one of l2, ip, or cosine"):
        module.BFIndex("hamming", 4)
    index = module.BFIndex("l2", 4)
    index.init_index(3)
    with pytest.raises(RuntimeError, match="already initiated"):
        index.init_index(3)
    with pytest.raises(RuntimeError, match="Wrong dimensionality"):
        index.add_items(np.ones((1, 3)))
    with pytest.raises(RuntimeError, match="input label shape"):
        index.add_items(np.ones((2, 4)), [1])
    with pytest.raises(RuntimeError, match="wrong shape"):
        index.knn_query(np.ones((1, 1, 4)))
    with pytest.raises(TypeError):
        index.knn_query(np.ones(4), filter=5)


@pytest.mark.parametrize("space", SPACES)
def test_save_and_load(module: ModuleType, space: str, tmp_path: Path) -> None:
    data = vectors(20, 4, seed=83)
    index = module.BFIndex(space, 4)
    index.init_index(25)
    index.add_items(data, np.arange(20) + 100)
    path = str(tmp_path / "index")
    index.save_index(path)
    assert [file.name for file in tmp_path.iterdir()] == ["index"]
    loaded = module.BFIndex(space, 4)
    loaded.load_index(path)
    assert (loaded.get_current_count(), loaded.get_max_elements()) == (20, 25)
    for mine, other in zip(index.knn_query(data, k=4), loaded.knn_query(data, k=4), strict=True):
        np.testing.assert_array_equal(mine, other)
    loaded.add_items(data[0])  # the next label is the number of items
    assert loaded.get_current_count() == 21


# Ours alone.


def test_cosine_distances_are_of_any_length_of_query() -> None:
    data = vectors(20, 4, seed=84)
    index = ours.BFIndex("cosine", 4)
    index.init_index(20)
    index.add_items(data * 3)
    np.testing.assert_allclose(index.knn_query(data * 50, k=1)[1], 0, atol=1e-6)


@pytest.mark.parametrize(
    "call", [lambda i: i.knn_query(np.ones(4), k=3), lambda i: i.knn_query([np.nan] * 4)]
)
def test_searches_that_are_refused(call: object) -> None:
    index = ours.BFIndex("l2", 4)
    with pytest.raises(RuntimeError, match="call init_index or load_index first"):
        index.knn_query(np.ones(4))
    index.init_index(5)
    index.add_items(vectors(3, 4, seed=85))
    index.delete_vector(1)
    with pytest.raises(RuntimeError):
        call(index)  # type: ignore[operator]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_vectors_that_no_search_could_take_are_refused(value: float) -> None:
    index = ours.BFIndex("l2", 4)
    index.init_index(5)
    with pytest.raises(RuntimeError):
        index.add_items([[1, 1, 1, 1], [1, 1, 1, value]])
    assert index.get_current_count() == 0


def test_loading_over_an_index_warns_and_a_damaged_file_changes_nothing(tmp_path: Path) -> None:
    index = ours.BFIndex("l2", 4)
    index.init_index(5)
    index.add_items(vectors(3, 4, seed=86))
    index.save_index(tmp_path / "index")
    with pytest.warns(RuntimeWarning, match="already inited"):
        index.load_index(tmp_path / "index")
    whole = (tmp_path / "index").read_bytes()
    at = whole.index(vectors(3, 4, seed=86).tobytes())
    for case in (whole[:-1], whole[:100], b"", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
        (tmp_path / "index").write_bytes(case)
        with pytest.raises(RuntimeError):
            index.load_index(tmp_path / "index")
    assert index.get_current_count() == 3
    with pytest.raises(RuntimeError, match="Cannot open file"):
        index.load_index(tmp_path / "nothing")


@pytest.mark.parametrize("seed", range(4))
def test_random_operations_against_a_dict(seed: int) -> None:
    rng = np.random.default_rng([87, seed])
    index = ours.BFIndex("l2", 3)
    index.init_index(900)
    items: dict[int, list[float]] = {}
    for _ in range(120):
        if rng.random() < 0.5:
            labels = rng.choice(900, size=int(rng.integers(1, 90)), replace=False)
            rows = rng.integers(-9, 9, size=(len(labels), 3))
            index.add_items(rows, labels)
            items.update(zip(labels.tolist(), rows.tolist(), strict=True))
        else:
            for label in rng.integers(0, 900, size=int(rng.integers(1, 60))).tolist():
                index.delete_vector(label)
                items.pop(label, None)
        assert index.get_current_count() == len(items)
        if not items:
            continue
        query = rng.integers(-9, 9, size=3)
        k = int(rng.integers(1, len(items) + 1))
        labels, found = index.knn_query(query, k=k)
        exact = {label: int(((np.array(row) - query) ** 2).sum()) for label, row in items.items()}
        assert found[0].tolist() == sorted(exact.values())[:k]
        assert [exact[label] for label in labels[0].tolist()] == found[0].tolist()
        assert len(set(labels[0].tolist())) == k
