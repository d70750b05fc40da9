"""Names, defaults, types and refusals: the same calls on both modules."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from embedcore.compat import hnswlib as ours
from embedcore.errors import EmbedcoreError

from .conftest import SPACES, made, vectors

TOO_FEW = "Cannot return the results in a contiguous 2D array"


def test_every_public_name_is_there() -> None:
    real = pytest.importorskip("hnswlib")
    for name in ("Index", "BFIndex"):
        public = {member for member in dir(getattr(real, name)) if not member.startswith("_")}
        assert public <= set(dir(getattr(ours, name)))


def test_properties_before_and_after_init(module: ModuleType) -> None:
    index = module.Index("cosine", 4)
    assert repr(index) == "<hnswlib.Index(space='cosine', dim=4)>"
    assert (index.space, index.dim, index.ef) == ("cosine", 4, 10)
    assert (index.M, index.ef_construction, index.max_elements, index.element_count) == (0, 0, 0, 0)
    assert index.num_threads >= 1
    index.set_ef(33)
    index.init_index(max_elements=7)
    assert (index.M, index.ef_construction, index.max_elements, index.element_count) == (16, 200, 7, 0)
    assert index.ef == 33
    index.ef = 44
    index.num_threads = 3
    assert (index.ef, index.num_threads) == (44, 3)
    index.set_num_threads(2)
    assert index.num_threads == 2
    assert (index.get_max_elements(), index.get_current_count()) == (7, 0)


def test_ef_construction_is_at_least_m(module: ModuleType) -> None:
    index = made(module, "l2", 4, 10, M=12, ef_construction=5)
    assert (index.M, index.ef_construction) == (12, 12)


@pytest.mark.parametrize("m", [1, 600])
def test_an_m_beyond_the_graphs_is_reported_as_given(module: ModuleType, m: int) -> None:
    index = made(module, "l2", 4, 10, M=m, ef_construction=700)
    assert (index.M, index.ef_construction) == (m, 700)


@pytest.mark.parametrize(
    "name", ["space", "dim", "M", "ef_construction", "max_elements", "element_count", "x"]
)
def test_what_cannot_be_set(module: ModuleType, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(module.Index("l2", 4), name, 1)


@pytest.mark.parametrize("space", SPACES)
def test_types_of_results(module: ModuleType, space: str) -> None:
    data = vectors(20, 5, seed=1)
    index = made(module, space, 5, 20)
    assert index.add_items(data) is None
    labels, distances = index.knn_query(data[:3], k=4)
    assert (labels.dtype, distances.dtype) == (np.uint64, np.float32)
    assert labels.shape == distances.shape == (3, 4)
    assert labels.flags.c_contiguous
    assert labels.flags.writeable
    assert (np.diff(distances, axis=1) >= 0).all()
    for query in (data[0], data[0].tolist(), data[:1]):
        labels, distances = index.knn_query(query)
        assert labels.shape == distances.shape == (1, 1)
    for data_of_none, k in ((np.empty((0, 5)), 3), (data[:2], 0)):
        labels, distances = index.knn_query(data_of_none, k=k)
        assert labels.shape == distances.shape == (len(data_of_none), k)
        assert (labels.dtype, distances.dtype) == (np.uint64, np.float32)


def test_get_items_and_ids(module: ModuleType) -> None:
    data = vectors(6, 5, seed=2)
    index = made(module, "l2", 5, 20)
    index.add_items(data, np.arange(6) * 3)
    found = index.get_items([6, 0, 6])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, data[[2, 0, 2]])
    np.testing.assert_array_equal(index.get_items(np.array([[3], [9]])), data[[1, 3]])
    assert index.get_items([3], return_type="list") == data[1:2].tolist()
    assert index.get_items().shape == (0,)
    assert index.get_items().dtype == np.float32
    assert index.get_items(None, "list") == []
    ids = index.get_ids_list()
    assert isinstance(ids, list)
    assert all(type(label) is int for label in ids)
    assert sorted(ids) == [0, 3, 6, 9, 12, 15]


def test_cosine_keeps_normalised_vectors(module: ModuleType) -> None:
    data = vectors(6, 5, seed=3) * 7
    index = made(module, "cosine", 5, 10)
    index.add_items(data)
    expected = data / np.linalg.norm(data, axis=1, keepdims=True)
    np.testing.assert_allclose(index.get_items(range(6)), expected, atol=1e-6)


def test_zero_vectors_have_distance_one_under_cosine(module: ModuleType) -> None:
    index = made(module, "cosine", 3, 10)
    index.add_items([[0, 0, 0], [1, 0, 0]])
    labels, distances = index.knn_query([0, 2, 0], k=2)
    assert sorted(labels[0].tolist()) == [0, 1]
    np.testing.assert_allclose(distances, 1, atol=1e-6)
    np.testing.assert_allclose(index.knn_query([0, 0, 0], k=2)[1], 1, atol=1e-6)
    assert index.get_items([0]).tolist() == [[0, 0, 0]]


def test_labels_without_ids_go_on_counting(module: ModuleType) -> None:
    data = vectors(8, 4, seed=4)
    index = made(module, "l2", 4, 20)
    index.add_items(data[:2])
    index.add_items(data[2:4], [100, 101])  # uses up 2 and 3
    index.add_items(data[4:6])
    index.add_items(data[6], 0)  # uses up 6
    index.add_items(data[7])
    assert sorted(index.get_ids_list()) == [0, 1, 4, 5, 7, 100, 101]
    np.testing.assert_array_equal(index.get_items([0, 4, 7]), data[[6, 4, 7]])


@pytest.mark.parametrize(
    "data", [vectors(1, 3, seed=5).astype(t) for t in ("f2", "f4", "f8", "i4", "u1", "?")]
)
def test_anything_numeric_is_taken(module: ModuleType, data: Any) -> None:
    index = made(module, "l2", 3, 5)
    index.add_items(data)
    index.add_items(data.tolist()[0], 9.0)
    np.testing.assert_array_equal(index.get_items([0, 9]), np.repeat(data.astype(np.float32), 2, axis=0))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m, i: m.Index("hamming", 4), RuntimeError, "must be one of l2, ip, or cosine"),
        (lambda m, i: m.Index(3, 4), TypeError, ""),
        (lambda m, i: m.Index("l2", 4.0), TypeError, ""),
        (lambda m, i: m.Index(), TypeError, ""),
        (lambda m, i: m.Index("l2", 4).init_index(-1), TypeError, ""),
        (lambda m, i: m.Index("l2", 4).init_index(5.0), TypeError, ""),
        (lambda m, i: i.init_index(10), RuntimeError, "already initiated"),
        (lambda m, i: i.add_items(np.ones((2, 3))), RuntimeError, "Wrong dimensionality"),
        (lambda m, i: i.add_items([]), RuntimeError, "Wrong dimensionality"),
        (lambda m, i: i.add_items(np.ones((2, 4, 1))), RuntimeError, "wrong shape"),
        (lambda m, i: i.add_items(1.0), RuntimeError, "wrong shape"),
        (lambda m, i: i.add_items("abc"), ValueError, ""),
        (lambda m, i: i.add_items([[1, 2, 3, 4], [1]]), ValueError, ""),
        (lambda m, i: i.add_items(np.ones((2, 4)), [1]), RuntimeError, "input label shape"),
        (lambda m, i: i.add_items(np.ones((2, 4)), []), RuntimeError, "input label shape"),
        (lambda m, i: i.add_items(np.ones((2, 4)), [[1], [2]]), RuntimeError, "input label shape"),
        (lambda m, i: i.add_items(np.ones(4), ["a"]), ValueError, ""),
        (lambda m, i: i.add_items(np.ones(4), 1, replace_deleted=True), RuntimeError, "disabled"),
        (
            lambda m, i: i.add_items(vectors(9, 4, seed=6), np.arange(9) + 50),
            RuntimeError,
            "exceeds the spec",
        ),
        (lambda m, i: i.knn_query(np.ones((1, 1, 4))), RuntimeError, "wrong shape"),
        (lambda m, i: i.knn_query(np.ones(4), k=4), RuntimeError, TOO_FEW),
        (lambda m, i: i.knn_query(np.ones(4), k=100), RuntimeError, TOO_FEW),
        (lambda m, i: i.knn_query(np.ones(4), k=2, filter=lambda a: a == 1), RuntimeError, TOO_FEW),
        (lambda m, i: i.knn_query(np.ones(4), k=-1), TypeError, ""),
        (lambda m, i: i.knn_query(np.ones(4), k=1.0), TypeError, ""),
        (lambda m, i: i.knn_query(np.ones(4), filter=5), TypeError, ""),
        (lambda m, i: i.get_items(0), ValueError, "accepts a list"),
        (lambda m, i: i.get_items([0], return_type="tuple"), ValueError, "return_type should be"),
        (lambda m, i: i.get_items([0, 77]), RuntimeError, "Label not found"),
        (lambda m, i: i.mark_deleted(77), RuntimeError, "Label not found"),
        (lambda m, i: i.mark_deleted(-1), TypeError, ""),
        (lambda m, i: i.mark_deleted(1.0), TypeError, ""),
        (lambda m, i: i.unmark_deleted(77), RuntimeError, "Label not found"),
        (lambda m, i: i.unmark_deleted(1), RuntimeError, "is not deleted"),
        (lambda m, i: i.resize_index(2), RuntimeError, "Cannot resize"),
        (lambda m, i: i.resize_index(-2), TypeError, ""),
        (lambda m, i: i.set_ef(-1), TypeError, ""),
        (lambda m, i: m.Index("l2", 4).load_index("/nowhere/index"), RuntimeError, "Cannot open file"),
    ],
)
def test_refusals(module: ModuleType, call: Any, error: type[Exception], text: str) -> None:
    index = made(module, "l2", 4, 10)
    index.add_items(vectors(3, 4, seed=7))
    with pytest.raises(error, match=text or None):
        call(module, index)


def test_an_empty_index_has_too_few_results(module: ModuleType) -> None:
    index = made(module, "l2", 4, 10)
    with pytest.raises(RuntimeError, match=TOO_FEW):
        index.knn_query(np.ones(4))


def test_an_exception_of_the_filter_comes_through(module: ModuleType) -> None:
    index = made(module, "l2", 4, 10)
    index.add_items(vectors(3, 4, seed=8))

    def broken(label: int) -> bool:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        index.knn_query(np.ones(4), num_threads=1, filter=broken)


# What hnswlib would take, or would crash on.


@pytest.mark.parametrize(
    "call",
    [
        lambda i: i.add_items(np.ones(4)),
        lambda i: i.knn_query(np.ones(4)),
        lambda i: i.get_items([0]),
        lambda i: i.get_ids_list(),
        lambda i: i.mark_deleted(0),
        lambda i: i.unmark_deleted(0),
        lambda i: i.resize_index(5),
        lambda i: i.get_max_elements(),
        lambda i: i.get_current_count(),
        lambda i: i.index_file_size(),
        lambda i: i.save_index("never written"),
    ],
)
def test_calls_before_init_are_refused(call: Any) -> None:
    with pytest.raises(RuntimeError, match="call init_index or load_index first"):
        call(ours.Index("l2", 4))


@pytest.mark.parametrize(
    "call",
    [
        lambda i: i.add_items(np.ones(4), 2**63),
        lambda i: i.add_items(np.ones(4), [-1]),
        lambda i: i.add_items(np.ones(4), [np.nan]),
        lambda i: i.add_items(np.ones(4), 2.0**63),
        lambda i: i.add_items([[1, 2, 3, np.nan]]),
        lambda i: i.add_items([[1, 2, 3, 1e300]]),
        lambda i: i.knn_query([1, 2, 3, np.inf]),
        lambda i: i.mark_deleted(2**63),
        lambda i: i.get_items([2**64 - 1]),
        lambda i: i.get_items([[0, 1], [1, 2]]),
        lambda i: ours.Index("l2", 65536),
        lambda i: ours.Index("l2", 0),
    ],
)
@pytest.mark.parametrize("space", SPACES)
def test_what_only_embedcore_refuses_is_of_both_families(space: str, call: Any) -> None:
    index = made(ours, space, 4, 10)
    index.add_items(vectors(3, 4, seed=9))
    for family in (RuntimeError, ValueError, EmbedcoreError):
        with pytest.raises(family):
            call(index)
    assert index.get_ids_list() == [0, 1, 2]
    index.add_items(np.ones(4))  # a refused call has used up no label
    assert index.get_ids_list() == [0, 1, 2, 3]


def test_a_query_of_the_wrong_dimension_is_refused() -> None:
    index = made(ours, "l2", 4, 10)
    index.add_items(np.ones(4))
    with pytest.raises(RuntimeError, match="Wrong dimensionality of the vectors: 3, expected 4"):
        index.knn_query(np.ones(3))


def test_a_refused_add_has_added_nothing() -> None:
    data = vectors(12, 4, seed=10)
    index = made(ours, "l2", 4, 10)
    index.add_items(data[:8])
    with pytest.raises(RuntimeError, match=r"exceeds the specified limit: 8 \+ 3 > 10"):
        index.add_items(data[8:12], [7, 20, 21, 22])
    assert index.get_ids_list() == list(range(8))
    np.testing.assert_array_equal(index.get_items([7]), data[7:8])


def test_the_last_vector_of_a_label_given_twice_stays() -> None:
    data = vectors(4, 4, seed=11)
    index = made(ours, "l2", 4, 3)
    index.add_items(data, [5, 6, 5, 7])
    assert index.element_count == 3
    np.testing.assert_array_equal(index.get_items([5, 6, 7]), data[[2, 1, 3]])
