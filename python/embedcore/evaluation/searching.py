"""Small helpers around batch searches: seeded subsets of queries, and searching them some at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from embedcore.errors import Internal
from embedcore.evaluation.interface import Ints, Lists, Progress

_CHUNK = 1_000  # queries per search call: progress, and a place to stop


def subset(total: int, count: int, rng: np.random.Generator) -> Ints:
    """``count`` of 0..total-1 without repetition, ascending; all when there are no more."""
    if count >= total:
        return np.arange(total, dtype=np.int64)
    return np.sort(rng.choice(total, size=max(count, 0), replace=False)).astype(np.int64)


def in_chunks(
    search: Callable[[int, int], Lists], total: int, depth: int, what: str, progress: Progress
) -> Lists:
    """The lists (total, depth) of queries 0..total-1; ``search(start, end)`` gives those of a chunk.

    A chunk of fewer columns is padded with -1 and inf; one of other rows or more columns is Internal.
    """
    ids = np.full((total, depth), -1, np.int64)
    distances = np.full((total, depth), np.inf, np.float32)
    for start in range(0, total, _CHUNK):
        end = min(start + _CHUNK, total)
        found, far = search(start, end)
        if found.shape != far.shape or found.ndim != 2 or len(found) != end - start or found.shape[1] > depth:
            raise Internal(
                f"{what}: a search of {end - start} queries to depth {depth} gave ids {found.shape} and "
                f"distances {far.shape}"
            )
        ids[start:end, : found.shape[1]], distances[start:end, : found.shape[1]] = found, far
        progress(what, end, total)
    return ids, distances
