"""The adapter: copied to ann_benchmarks/algorithms/embedcore/module.py of a checkout of ann-benchmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import embedcore

try:
    from ..base.module import BaseANN  # type: ignore[import-not-found, unused-ignore]  # noqa: TID252
except ImportError:  # outside that checkout
    BaseANN = object


class Embedcore(BaseANN):  # type: ignore[misc, unused-ignore]
    """One index. The framework runs it on one core and sets ef between passes."""

    def __init__(self, metric: str, options: dict[str, Any]) -> None:
        self._metric = {"angular": "cosine", "euclidean": "l2"}[metric]
        self._options = options
        self._ef = 64
        self._index: embedcore.Index | None = None
        self._found: embedcore.SearchResult | None = None

    def fit(self, X: NDArray[np.float32]) -> None:  # noqa: N803 - the framework's name
        self._index = embedcore.Index(X.shape[1], self._metric, capacity=len(X), **self._options)  # type: ignore[arg-type]
        self._index.add(np.arange(len(X)), X, threads=1)

    def set_query_arguments(self, ef: int) -> None:
        self._ef = ef

    def query(self, q: NDArray[np.float32], n: int) -> NDArray[np.int64]:
        assert self._index is not None
        return self._index.search(q, k=n, ef_search=self._ef, threads=1).ids

    def batch_query(self, X: NDArray[np.float32], n: int) -> None:  # noqa: N803
        assert self._index is not None
        self._found = self._index.search(X, k=n, ef_search=self._ef)

    def get_batch_results(self) -> list[NDArray[np.int64]]:
        assert self._found is not None
        return list(self._found.ids)

    def get_memory_usage(self) -> float:
        """Kibibytes, as the framework counts."""
        return 0.0 if self._index is None else self._index.memory_bytes / 1024

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self._options.items())
        return f"embedcore({options}, ef={self._ef})"
