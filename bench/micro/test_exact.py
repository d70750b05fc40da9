"""Kernels, through exact_search: nothing but distances and a heap per query.

``pytest bench/micro``; EMBEDCORE_ISA forces an instruction set.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore

# CPU time: on a machine that other work shares, a call of milliseconds is rarely left alone.
pytestmark = pytest.mark.benchmark(timer=time.process_time)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_one_query_against_all(benchmark: Any, rows: NDArray[np.float32], metric: Any) -> None:
    found = benchmark(embedcore.exact_search, rows, rows[0], 10, metric, threads=1)
    assert found.ids[0] == 0 or metric == "ip"


def test_sixty_four_queries_against_all(benchmark: Any, rows: NDArray[np.float32]) -> None:
    found = benchmark(embedcore.exact_search, rows, rows[:64], 10, "l2", threads=1)
    assert found.ids[:, 0].tolist() == list(range(64))
