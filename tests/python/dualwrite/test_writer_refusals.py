"""DualWriter: bad input is refused whole, in one line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import embedcore
from embedcore.dual_writer import DualWriter
from embedcore.errors import InvalidArgument, NotFound

from .writers import DIM, ONE, DictIndex, pair, rows, step_all

NAN = np.full((1, DIM), np.nan, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda w: w.upsert([1], [ONE, NAN]), ValueError, "lane 1: vector 0 holds NaN"),
        (
            lambda w: w.upsert([1], [ONE * np.float32(np.inf), ONE]),
            ValueError,
            "lane 0: vector 0 holds an inf",
        ),
        (lambda w: w.upsert([1], [ONE, np.zeros((1, DIM + 1))]), ValueError, "lane 1 have shape"),
        (lambda w: w.upsert([1, 2], [ONE, ONE]), ValueError, "one vector per id"),
        (lambda w: w.upsert([1, 1], [rows([1, 2])] * 2), ValueError, "more than once"),
        (lambda w: w.upsert([-1], [ONE, ONE]), ValueError, "negative"),
        (lambda w: w.upsert([1.5], [ONE, ONE]), ValueError, "whole numbers"),
        (lambda w: w.upsert([1], [ONE] * 3), ValueError, "lane 2"),
        (lambda w: w.upsert([1], 3), ValueError, "one array per lane"),
        (lambda w: w.upsert([1], [np.array(["a"]), ONE]), ValueError, "dtype"),
        (lambda w: w.upsert([1], [ONE, ONE], timeout=-1), ValueError, "timeout"),
        (lambda w: w.upsert([1], [ONE, ONE], timeout="soon"), ValueError, "timeout"),
        (lambda w: w.upsert([1], [ONE, ONE], sequences=[1, 2]), ValueError, "give one each"),
        (lambda w: w.upsert([1], [ONE, ONE], sequences=[0]), ValueError, "count from 1"),
        (lambda w: w.remove([1, 2], sequences=[7, 7]), ValueError, "ascend"),
        (lambda w: w.upsert([1], [ONE, ONE], lanes=[5]), NotFound, "no lane 5"),
        (lambda w: w.wait(1), ValueError, "not given out"),
        (lambda w: w.wait("x"), ValueError, "ticket"),
        (lambda w: w.step(0, -1), ValueError, "n is -1"),
        (lambda w: w.step(9), NotFound, "no lane 9"),
        (lambda w: w.failures(9), NotFound, "no lane 9"),
        (lambda w: w.stats(9), NotFound, "no lane 9"),
        (lambda w: w.index(9), NotFound, "no lane 9"),
        (lambda w: w.detach(9), NotFound, "no lane 9"),
        (lambda w: w.swap(0, DictIndex(DIM + 1)), ValueError, "dimensions"),
        (lambda w: w.swap(0, embedcore.Index(DIM, "ip")), ValueError, "metric"),
        (lambda w: w.attach(object()), ValueError, "no index"),
        (lambda w: w.attach(DictIndex(), vectors_of=9), NotFound, "no lane 9"),
        (lambda w: w.attach(DictIndex(DIM + 1), vectors_of=0), ValueError, "dimensions"),
        (lambda w: w.attach(DictIndex(), from_sequence=0), ValueError, "from_sequence"),
        (lambda w: w.attach(DictIndex(), source=3), ValueError, "source"),
        (lambda w: DualWriter([3]), ValueError, "no index"),
        (lambda w: DualWriter([], capacity=0), ValueError, "capacity"),
        (lambda w: DualWriter([], threads=-1), ValueError, "threads"),
        (lambda w: DualWriter([], sources=[None]), ValueError, "give one each"),
        (lambda w: DualWriter([], gap_threshold=0), ValueError, "gap_threshold"),
    ],
)
def test_bad_input_is_refused_whole(
    call: Callable[[DualWriter], object], error: type[Exception], says: str
) -> None:
    writer, old, new = pair()
    with pytest.raises(error, match=says) as raised:
        call(writer)
    assert "\n" not in str(raised.value)
    step_all(writer)
    assert writer.stats()["entries"] == 0
    assert writer.lanes == [0, 1]
    assert old.items == new.items == {}
    assert writer.upsert([1], [ONE, ONE]) == 1  # and nothing stuck


def test_the_index_behind_a_lane_says_what_is_refused() -> None:
    half = embedcore.Index(DIM, "cosine", "float16")
    with DualWriter([half], threads=0) as writer:
        with pytest.raises(InvalidArgument, match="zero"):
            writer.upsert([1], [np.zeros((1, DIM))])
        with pytest.raises(InvalidArgument, match="float16"):
            writer.upsert([1], [np.full((1, DIM), 1e6)])
        assert writer.stats()["entries"] == 0
