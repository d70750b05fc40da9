"""What a call costs beside the search in it, and what an added item costs."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore

# CPU time: on a machine that other work shares, a call of milliseconds is rarely left alone.
pytestmark = pytest.mark.benchmark(timer=time.process_time)


@pytest.fixture(scope="module")
def index(rows: NDArray[np.float32]) -> embedcore.Index:
    made = embedcore.Index(rows.shape[1], "l2")
    made.add(np.arange(len(rows)), rows, threads=1)
    return made


@pytest.fixture(scope="module")
def single(rows: NDArray[np.float32]) -> embedcore.Index:
    made = embedcore.Index(rows.shape[1], "l2")
    made.add([0], rows[:1])
    return made


def test_call_overhead(benchmark: Any, single: embedcore.Index, rows: NDArray[np.float32]) -> None:
    """One item in the index: all that is left is the call."""
    assert benchmark(single.search, rows[0], 1, 1, threads=1).ids[0] == 0


def test_call_overhead_with_out(benchmark: Any, single: embedcore.Index, rows: NDArray[np.float32]) -> None:
    out = (np.empty(1, dtype=np.int64), np.empty(1, dtype=np.float32))
    assert benchmark(single.search, rows[0], 1, 1, threads=1, out=out).ids[0] == 0


@pytest.mark.parametrize("ef", [16, 64, 256])
def test_search_one(benchmark: Any, index: embedcore.Index, rows: NDArray[np.float32], ef: int) -> None:
    assert benchmark(index.search, rows[7], 10, ef, threads=1).ids.shape == (10,)


def test_search_batch(benchmark: Any, index: embedcore.Index, rows: NDArray[np.float32]) -> None:
    assert benchmark(index.search, rows[:256], 10, 64, threads=1).ids.shape == (256, 10)


def test_add(benchmark: Any, rows: NDArray[np.float32]) -> None:
    """A thousand items into an empty index."""

    def fresh() -> tuple[tuple[embedcore.Index], dict[str, Any]]:
        return (embedcore.Index(rows.shape[1], "l2", capacity=1_000),), {}

    def add(index: embedcore.Index) -> int:
        index.add(np.arange(1_000), rows[:1_000], threads=1)
        return len(index)

    assert benchmark.pedantic(add, setup=fresh, rounds=10) == 1_000
