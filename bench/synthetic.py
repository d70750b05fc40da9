"""Seeded vectors: clusters of low and of full intrinsic dimension, and no structure as the worst case."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Real embeddings of 384 to 1536 dimensions have an intrinsic dimension of 10 to 30; a mixture of full-rank
# Gaussians in that many dimensions would be a harder and a different problem.
GLOBAL_DIMENSION = 24
LOCAL_DIMENSION = 12
ITEMS_PER_CLUSTER = 250
NOISE = 0.02
BLOBS = 100
BLOB_SIGMA = np.float32(0.5)
_CHUNK = 65_536


def clustered(n: int, dim: int, seed: int, queries: int) -> tuple[Floats, Floats]:
    """(n, dim) items and (queries, dim) queries of the same distribution, in random order of clusters.

    Centres lie on a random plane of :data:`GLOBAL_DIMENSION` dimensions; each cluster spreads along its own
    :data:`LOCAL_DIMENSION` random directions, with sizes drawn log-normally; a little noise fills the rest.
    """
    rng = np.random.default_rng([seed, n, dim])
    clusters = max(4, n // ITEMS_PER_CLUSTER)
    wide, narrow = min(GLOBAL_DIMENSION, dim), min(LOCAL_DIMENSION, dim)
    plane = rng.standard_normal((wide, dim), dtype=np.float32) / np.sqrt(wide)
    centres = rng.standard_normal((clusters, wide), dtype=np.float32) @ plane
    # A basis per cluster would be gigabytes for a million items of 768: clusters share 64 of them.
    bases = rng.standard_normal((64, narrow, dim), dtype=np.float32) / np.sqrt(narrow)
    basis_of = rng.integers(0, len(bases), clusters)
    weights = rng.lognormal(0.0, 0.7, clusters)
    spread = rng.uniform(0.3, 0.8, clusters).astype(np.float32)

    def draw(count: int) -> Floats:
        rows = np.empty((count, dim), dtype=np.float32)
        chosen = rng.choice(clusters, size=count, p=weights / weights.sum())
        for start in range(0, count, _CHUNK):
            of = chosen[start : start + _CHUNK]
            part = centres[of] + NOISE * rng.standard_normal((len(of), dim), dtype=np.float32)
            local = rng.standard_normal((len(of), narrow), dtype=np.float32) * spread[of, None]
            for number in range(len(bases)):
                mine = np.flatnonzero(basis_of[of] == number)
                part[mine] += local[mine] @ bases[number]
            rows[start : start + len(of)] = part
        return rows

    return draw(n), draw(queries)


def blobs(n: int, dim: int, seed: int, queries: int) -> tuple[Floats, Floats]:
    """Full-rank Gaussians around :data:`BLOBS` centres: harder than text, where ``clustered`` is easier."""
    rng = np.random.default_rng([seed, n, dim, 2])
    centres = rng.standard_normal((BLOBS, dim), dtype=np.float32)

    def draw(count: int) -> Floats:
        rows = BLOB_SIGMA * rng.standard_normal((count, dim), dtype=np.float32)
        rows += centres[rng.integers(0, BLOBS, count)]
        return rows

    return draw(n), draw(queries)


def uniform(n: int, dim: int, seed: int, queries: int) -> tuple[Floats, Floats]:
    """Standard normal items and queries: no structure at all, which no embedding model produces."""
    rng = np.random.default_rng([seed, n, dim, 1])
    return (
        rng.standard_normal((n, dim), dtype=np.float32),
        rng.standard_normal((queries, dim), dtype=np.float32),
    )


MAKERS: dict[str, Callable[[int, int, int, int], tuple[Floats, Floats]]] = {
    "clustered": clustered,
    "blobs": blobs,
    "random": uniform,
}
