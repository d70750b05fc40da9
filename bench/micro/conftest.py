"""Data of the micro benchmarks: made once, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

ITEMS = 5_000


@pytest.fixture(scope="session", params=[128, 384, 768])
def dim(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="session")
def rows(dim: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(dim)
    plane = rng.standard_normal((16, dim), dtype=np.float32)
    return rng.standard_normal((ITEMS, 16), dtype=np.float32) @ plane
