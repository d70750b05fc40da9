"""Exact search, in every sweep: below some number of items it is the right answer, and no index is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.engines.base import Configuration, Engine, Floats, Searcher, library


class EmbedcoreExact(Engine):
    exact = True
    package = "embedcore"

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self._search = library("embedcore", "embedcore").exact_search
        self._base = np.empty((0, configuration.dim), dtype=np.float32)

    def build(self, base: Floats) -> None:
        self._base = base

    def searcher(self, k: int, ef: int) -> Searcher:
        search, base, metric = self._search, self._base, self.configuration.metric

        def call(queries: Floats) -> Any:
            return search(base, queries, k, metric, threads=1)

        return Searcher(one=call, many=call, ids=lambda found: np.atleast_2d(found.ids))

    def settings(self) -> str:
        return "reads the caller's array, keeps nothing"


class FaissFlat(Engine):
    exact = True
    package = "faiss-cpu"

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        faiss = library("faiss", "faiss-cpu")
        faiss.omp_set_num_threads(1)
        flat = faiss.IndexFlatL2 if configuration.metric == "l2" else faiss.IndexFlatIP
        self._index = flat(configuration.dim)

    def build(self, base: Floats) -> None:
        self._index.add(base)

    def searcher(self, k: int, ef: int) -> Searcher:
        search = self._index.search
        return Searcher(
            one=lambda row: search(row, k),
            many=lambda rows: search(rows, k),
            ids=lambda found: found[1],
            prepare=lambda row: row[None],
        )


ENGINES: dict[str, Callable[[Configuration], Engine]] = {
    "exact": EmbedcoreExact,
    "faiss-flat": FaissFlat,
}
