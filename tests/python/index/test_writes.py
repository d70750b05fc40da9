"""Adding, replacing, removing, and what is refused: with the index unchanged after each refusal."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import embedcore
from embedcore.errors import InvalidArgument, NotFound

from .conftest import clustered


def _index(metric: str = "cosine") -> embedcore.Index:
    index = embedcore.Index(4, metric)
    index.add([1, 2, 3], np.eye(4, dtype=np.float32)[:3])
    return index


def _state(index: embedcore.Index) -> tuple[Any, ...]:
    return (
        index.ids().tolist(),
        index.get(index.ids()).tolist(),
        index.tombstones,
        index.stats()["counters"],
    )


ONE = np.ones((1, 4), np.float32)
NAN = np.array([[1, 2, np.nan, 4]], np.float32)

REFUSED: list[tuple[str, Callable[[embedcore.Index], Any]]] = [
    ("shape (1, 5)", lambda i: i.add([9], np.ones((1, 5), np.float32))),
    ("shape (1, 1, 4)", lambda i: i.add([9], np.ones((1, 1, 4), np.float32))),
    ("2 ids came with 1 vectors", lambda i: i.add([8, 9], ONE)),
    ("0 ids came with 1 vectors", lambda i: i.add([], ONE)),
    ("id 9 comes more than once", lambda i: i.add([9, 8, 9], np.ones((3, 4), np.float32))),
    ("id -1 is negative", lambda i: i.add([9, -1], np.ones((2, 4), np.float32))),
    ("too large", lambda i: i.add(np.array([2**63], np.uint64), ONE)),
    ("whole numbers", lambda i: i.add([1.5], ONE)),
    ("vector 0 holds NaN at position 2", lambda i: i.add([9], NAN)),
    ("vector 1 holds an infinite value", lambda i: i.add([8, 9], np.array([[1] * 4, [1, 1, 1, np.inf]]))),
    ("vector 0 holds an infinite value", lambda i: i.add([9], [[1e300, 1, 1, 1]])),
    ("vector 0 is zero", lambda i: i.add([9], np.zeros((1, 4), np.float32))),
    ("give numbers", lambda i: i.add([9], [["a", "b", "c", "d"]])),
    ("threads is -1", lambda i: i.add([9], ONE, threads=-1)),
    ("k is 0", lambda i: i.search(ONE, k=0)),
    ("k is 2.5", lambda i: i.search(ONE, k=2.5)),
    ("ef_search is 0", lambda i: i.search(ONE, ef_search=0)),
    ("shape (3, 0)", lambda i: i.search(np.empty((3, 0)))),
    ("shape (3,)", lambda i: i.search(np.ones(3))),
    ("query 0 holds NaN", lambda i: i.search(NAN)),
    ("query 0 is zero", lambda i: i.search(np.zeros(4))),
    ("ids have dtype bool", lambda i: i.search(ONE, filter=np.array([True]))),
    ("out is not a pair", lambda i: i.search(ONE, out=np.empty(1))),
    (
        "out ids is",
        lambda i: i.search(ONE, k=2, out=(np.empty((1, 3), np.int64), np.empty((1, 2), np.float32))),
    ),
    ("out distances is", lambda i: i.search(ONE, k=2, out=(np.empty((1, 2), np.int64), np.empty((1, 2))))),
    (
        "not writable and C-contiguous",
        lambda i: i.search(ONE, k=2, out=(np.empty((1, 4), np.int64)[:, ::2], np.empty((1, 2), np.float32))),
    ),
    ("radius is NaN", lambda i: i.range_search(ONE, np.nan)),
    ("query 0 holds NaN", lambda i: i.range_search(NAN, 1.0)),
    ("query 0 holds NaN", lambda i: i.scores(NAN[0], [1])),
    ("takes one query, got 2", lambda i: i.scores(np.ones((2, 4)), [1])),
    ("watermark is -1", lambda i: i.save("never-written", watermark=-1)),
]


@pytest.mark.parametrize(("message", "call"), REFUSED, ids=[message for message, _ in REFUSED])
def test_refusals_change_nothing(message: str, call: Callable[[embedcore.Index], Any]) -> None:
    index = _index()
    before = _state(index)
    with pytest.raises(ValueError, match=r".") as caught:
        call(index)
    assert isinstance(caught.value, InvalidArgument)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert _state(index) == before


def test_an_unknown_id_is_a_key_error() -> None:
    index = _index()
    with pytest.raises(KeyError) as caught:
        index.get([1, 77, 78])
    assert isinstance(caught.value, NotFound)
    assert "id 77" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"dim": 65536}, "dim is 65536"),
        ({"dim": 3.5}, "dim is 3.5"),
        ({"metric": "euclid"}, "cosine, ip, l2"),
        ({"dtype": "float16"}, "float32"),
        ({"codes": "int8"}, "'auto' and 'none'"),
        ({"m": 1}, "m is 1"),
        ({"ef_construction": 0}, "ef_construction is 0"),
        ({"preset": "slow"}, "'fast'"),
        ({"capacity": -1}, "capacity is -1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_configurations_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        embedcore.Index(**{"dim": 4, **arguments})
    assert message in str(caught.value)


def test_zero_vectors_are_fine_where_they_mean_something() -> None:
    for metric in ("ip", "l2"):
        index = embedcore.Index(4, metric)
        index.add([1], np.zeros((1, 4)))
        assert index.search(np.zeros(4), k=1).ids.tolist() == [1]


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


def test_empty_input_is_a_no_op() -> None:
    index = _index()
    before = _state(index)
    index.add([], np.empty((0, 4), np.float32))
    index.add([], [])
    index.add(np.empty(0, np.int64), np.empty((0, 4), np.float64))
    assert _state(index) == before


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
