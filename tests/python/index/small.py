"""A small index that refusals must leave as it was, and what is put to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import embedcore

from .vectors import clustered

DIM = 16
ROWS = clustered(300, DIM, 5, seed=30)
ONE = ROWS[:1]
TWO = ROWS[:2]


def filled(dtype: Any, codes: Any) -> embedcore.Index:
    """All of ROWS but two that were removed."""
    index = embedcore.Index(DIM, "cosine", dtype, codes)
    index.add(np.arange(300), ROWS, threads=1)
    index.remove([7, 8])
    return index


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array


def state(index: embedcore.Index) -> tuple[Any, ...]:
    found = index.search(ROWS[:20], k=5, ef_search=50)
    stats = index.stats()
    return (
        len(index),
        index.ids().tobytes(),
        index.get(index.ids()).tobytes(),
        index.tombstones,
        stats["counters"],
        stats["codes"],
        stats["degrees"],
        found.ids.tobytes(),
        found.distances.tobytes(),
        index.check(),
    )
