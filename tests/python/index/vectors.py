"""Vectors that the index tests share: a slice of real text vectors, and random clusters."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import embedcore

DATA = Path(__file__).parents[2] / "data"


@functools.cache
def text() -> NDArray[np.float32]:
    """(4000, 384): all-MiniLM-L6-v2 of WordNet glosses, every row of unit length to float16.
    Not to be written to."""
    return np.load(DATA / "wordnet-minilm-4000.f16.npy").astype(np.float32)


def clustered(n: int, dim: int, clusters: int, seed: int) -> NDArray[np.float32]:
    """(n, dim) in normal clusters of very different sizes."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dim))
    sizes = rng.dirichlet(np.full(clusters, 0.5))
    of = rng.choice(clusters, size=n, p=sizes)
    return (centres[of] + 0.4 * rng.normal(size=(n, dim))).astype(np.float32)


def tight_clusters(n: int, dim: int, clusters: int, seed: int) -> NDArray[np.float32]:
    """(n, dim) of unit length: clusters that spread along 12 directions each, far from each other."""
    rng = np.random.default_rng(seed)
    plane = rng.standard_normal((24, dim)) / np.sqrt(24)
    centres = rng.standard_normal((clusters, 24)) @ plane
    bases = rng.standard_normal((clusters, 12, dim)) / np.sqrt(12)
    of = rng.integers(0, clusters, n)
    rows = centres[of] + 0.4 * np.einsum("ij,ijk->ik", rng.standard_normal((n, 12)), bases[of])
    rows += 0.02 * rng.standard_normal((n, dim))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """The share of the true neighbours (q, k) that were found."""
    hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True))
    return hits / truth.size


def recall_by_distance(found: embedcore.SearchResult, truth: embedcore.SearchResult) -> float:
    """Where several are equal to what float32 can tell, any of them counts."""
    edge = truth.distances[:, -1:]
    same = (found.ids[:, :, None] == truth.ids[:, None, :]).any(axis=2)
    return float((same | (found.distances <= edge + 1e-5 * np.abs(edge) + 3e-7)).mean())
