"""The module under test: embedcore's, and, where it is installed, the one that it stands in for."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedcore.compat import hnswlib as ours

SPACES = ("l2", "ip", "cosine")


@pytest.fixture(params=["embedcore", "hnswlib"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """A test that takes this makes the same calls on both."""
    return ours if request.param == "embedcore" else pytest.importorskip("hnswlib")


def vectors(n: int, dim: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def made(module: ModuleType, space: str, dim: int, limit: int, **settings: Any) -> Any:
    """An Index of one thread, ready for items."""
    index = module.Index(space=space, dim=dim)
    index.init_index(max_elements=limit, **settings)
    index.set_num_threads(1)
    return index


def distances(space: str, queries: NDArray[Any], base: NDArray[Any]) -> NDArray[np.float64]:
    """(q, n) in double precision."""
    a, b = queries.astype(np.float64), base.astype(np.float64)
    if space == "l2":
        return ((a[:, None] - b[None]) ** 2).sum(axis=2)
    if space == "cosine":
        a = a / np.linalg.norm(a, axis=1, keepdims=True)
        b = b / np.linalg.norm(b, axis=1, keepdims=True)
    return 1 - a @ b.T


def recall(found: NDArray[Any], exact: NDArray[np.float64], labels: NDArray[Any] | None = None) -> float:
    """The share of the true neighbours among ``found`` (q, k); ``exact`` (q, n) are their distances."""
    truth = np.argsort(exact, axis=1)[:, : found.shape[1]]
    if labels is not None:
        truth = labels[truth]
    hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), truth.tolist(), strict=True))
    return hits / truth.size
