"""What is unusual, but fine: layouts, types, nothing at all, more than there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore

from .small import DIM, ONE, ROWS, read_only, state


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_zero_and_tiny_vectors_are_fine_where_they_mean_something(metric: Any, dtype: Any) -> None:
    index = embedcore.Index(4, metric, dtype)
    tiny = [[0, 0, 0, 0], [1e-44, 0, 0, 1e-45], [1e-38, -3e-38, 0, 0]]
    index.add([1, 2, 3], tiny)
    # Below the normal floats an int8 step is their smallest.
    error = {"float16": 6e-8, "int8": 6e-39}.get(dtype, 1e-40)
    np.testing.assert_allclose(index.get([1, 2, 3]), tiny, rtol=0.01, atol=error)
    found = index.search(np.zeros(4), k=3)
    assert sorted(found.ids.tolist()) == [1, 2, 3]
    np.testing.assert_allclose(found.distances, 1 if metric == "ip" else 0, atol=1e-30)


LAYOUTS: dict[str, Callable[[NDArray[np.float32]], Any]] = {
    "as it is": lambda a: a,
    "Fortran": np.asfortranarray,
    "every other row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "every other column": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "backwards twice": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "read-only": lambda a: read_only(a.copy()),
    "big-endian": lambda a: a.astype(">f4"),
    "big-endian double": lambda a: a.astype(">f8"),
    "double": lambda a: a.astype(np.float64),
    "long double": lambda a: a.astype(np.longdouble),
    "list": lambda a: a.tolist(),
    "list of arrays": list,
    "array subclass": lambda a: a.view(np.matrix),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float32).reshape(a.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_layouts_and_types_of_vectors(layout: str) -> None:
    plain = embedcore.Index(DIM, "l2")
    plain.add(np.arange(300), ROWS, threads=1)
    index = embedcore.Index(DIM, "l2")
    given = LAYOUTS[layout](ROWS)
    index.add(np.arange(300), given, threads=1)
    np.testing.assert_array_equal(index.get(np.arange(300)), ROWS)
    for few in (given, given[:1], given[0]):
        truth = plain.search(np.asarray(few, np.float32), k=5)
        found = index.search(few, k=5)
        np.testing.assert_array_equal(found.ids, truth.ids)
        np.testing.assert_array_equal(found.distances, truth.distances)
    np.testing.assert_array_equal(index.scores(given[3], [1, 2]), plain.scores(ROWS[3], [1, 2]))


@pytest.mark.parametrize("dtype", ["float16", ">f2", "int8", "int64", ">i4", "uint16", "uint64"])
def test_other_numbers(dtype: str) -> None:
    whole = np.round(ROWS * 10).clip(0, 100).astype(dtype)
    index = embedcore.Index(DIM, "l2")
    index.add(np.arange(300), whole)
    np.testing.assert_array_equal(index.get(np.arange(300)), whole.astype(np.float32))
    assert index.search(whole[5], k=1).distances.tolist() == [0]


@pytest.mark.parametrize(
    "ids",
    [
        np.arange(300, dtype=np.uint16),
        np.arange(300, dtype=np.uint64),
        np.arange(300, dtype=">i8"),
        np.arange(600)[::2] // 2,
        read_only(np.arange(300)),
        range(300),
        list(range(300)),
        tuple(range(300)),
        np.frombuffer(b"x" + np.arange(300).tobytes(), np.uint8)[1:].view(np.int64),
    ],
    ids=str,
)
def test_layouts_and_types_of_ids(ids: Any) -> None:
    index = embedcore.Index(DIM, "l2")
    index.add(ids, ROWS)
    assert index.ids().tolist() == list(range(300))
    np.testing.assert_array_equal(index.get(ids), ROWS)
    assert (index.scores(ROWS[0], ids) >= 0).all()
    assert index.search(ROWS[4], k=300, ef_search=300, filter=ids).ids[0] == 4
    assert index.remove(ids) == 300


@pytest.mark.parametrize("nothing", [[], (), np.empty(0), np.empty((0, 0)), np.empty((0, DIM))], ids=repr)
def test_empty_input_is_a_no_op(index: embedcore.Index, nothing: Any) -> None:
    before = state(index)
    index.add([], nothing)
    index.add(np.empty(0, np.int64), nothing)
    assert index.remove([]) == 0
    assert index.remove(np.empty((0, 3))) == 0
    assert index.get([]).shape == (0, DIM)
    assert index.scores(ONE, []).shape == (0,)
    found = index.search(nothing, k=3)
    assert found.ids.shape == found.distances.shape == (0, 3)
    assert index.search(nothing, k=3, filter=[1], stats=True).ids.shape == (0, 3)
    assert index.range_search(nothing, 1.0).ids.shape == (0, 0)
    assert (index.search(ONE, k=3, filter=[]).ids == -1).all()
    assert index.range_search(ONE, 10.0, filter=[]).ids.shape == (1, 0)
    assert state(index) == before


def test_k_and_ef_search_beyond_the_index(index: embedcore.Index) -> None:
    live = sorted(set(range(300)) - {7, 8})
    for ef in (1, 10_000, 2**32 - 1):
        for queries in (ROWS[:3], ROWS[0]):
            found = index.search(queries, k=1000, ef_search=ef)
            ids = np.atleast_2d(found.ids)
            distances = np.atleast_2d(found.distances)
            assert all(sorted(row) == live for row in ids[:, :298].tolist())
            assert (ids[:, 298:] == -1).all()
            assert np.isposinf(distances[:, 298:]).all()
            assert (np.diff(distances[:, :298]) >= 0).all()
    few = index.search(ROWS[:3], k=2**16, ef_search=2**32 - 1, filter=[5, 6, 7, 900])
    assert [sorted(row[:2]) for row in few.ids.tolist()] == [[5, 6]] * 3
    assert (few.ids[:, 2:] == -1).all()


def test_ints_of_numpy_are_ints(index: embedcore.Index) -> None:
    truth = index.search(ROWS[:9], k=4, ef_search=20)
    found = index.search(ROWS[:9], k=np.int64(4), ef_search=np.uint8(20), threads=np.int32(1))
    np.testing.assert_array_equal(found.ids, truth.ids)


def test_removing_what_is_not_there(index: embedcore.Index) -> None:
    before = state(index)
    assert index.remove([7, 8, 900, -1, -(2**63), 2**63 - 1]) == 0
    assert state(index) == before


def test_an_exception_of_a_filter_ends_the_search(index: embedcore.Index) -> None:
    before = state(index)

    def broken(item: int) -> bool:
        raise RuntimeError(f"asked for {item // 1000}")

    for queries in (ROWS[0], ROWS):
        with pytest.raises(RuntimeError, match="asked for 0"):
            index.search(queries, filter=broken)
        with pytest.raises(RuntimeError, match="asked for 0"):
            index.range_search(queries, 1.0, filter=broken)
    with pytest.raises(TypeError):
        index.search(ROWS[0], filter=lambda: True)  # takes no id
    assert state(index) == before
