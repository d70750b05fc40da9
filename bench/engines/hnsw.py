"""Peers that keep an HNSW graph: hnswlib, FAISS, usearch, voyager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines.base import Configuration, Engine, Floats, Searcher, library


class Hnswlib(Engine):
    package = "hnswlib"

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        hnswlib = library("hnswlib", "hnswlib")
        self._index = hnswlib.Index(space=configuration.metric, dim=configuration.dim)

    def build(self, base: Floats) -> None:
        chosen = self.configuration
        self._index.init_index(
            max_elements=len(base), M=chosen.m, ef_construction=chosen.ef_construction, random_seed=0
        )
        self._index.add_items(base, np.arange(len(base)), num_threads=1)

    def searcher(self, k: int, ef: int) -> Searcher:
        self._index.set_ef(ef)
        query = self._index.knn_query

        def call(queries: Floats) -> Any:
            return query(queries, k=k, num_threads=1)

        return Searcher(one=call, many=call, ids=lambda found: found[0].astype(np.int64))


class FaissHnsw(Engine):
    package = "faiss-cpu"

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        faiss = library("faiss", "faiss-cpu")
        faiss.omp_set_num_threads(1)
        # The vectors are unit length under cosine, where the inner product orders the same.
        kind = faiss.METRIC_L2 if configuration.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self._index = faiss.IndexHNSWFlat(configuration.dim, configuration.m, kind)
        self._index.hnsw.efConstruction = configuration.ef_construction

    def build(self, base: Floats) -> None:
        self._index.add(base)

    def searcher(self, k: int, ef: int) -> Searcher:
        self._index.hnsw.efSearch = ef
        search = self._index.search
        return Searcher(
            one=lambda row: search(row, k),
            many=lambda rows: search(rows, k),
            ids=lambda found: found[1],
            prepare=lambda row: row[None],
        )


class Usearch(Engine):
    package = "usearch"

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        usearch = library("usearch.index", "usearch")
        self._index = usearch.Index(
            ndim=configuration.dim,
            metric={"cosine": "cos", "ip": "ip", "l2": "l2sq"}[configuration.metric],
            dtype="f32",
            connectivity=configuration.m,
            expansion_add=configuration.ef_construction,
        )

    def build(self, base: Floats) -> None:
        self._index.add(np.arange(len(base)), base, threads=1)

    def searcher(self, k: int, ef: int) -> Searcher:
        self._index.expansion_search = ef
        search = self._index.search

        def call(queries: Floats) -> Any:
            return search(queries, k, threads=1)

        def ids(found: Any) -> NDArray[np.integer]:
            keys = np.atleast_2d(np.asarray(found.keys)).astype(np.int64)
            if keys.shape[1] == k:
                return keys
            return np.pad(keys, ((0, 0), (0, k - keys.shape[1])), constant_values=-1)

        return Searcher(one=call, many=call, ids=ids)

    def memory_bytes(self) -> int:
        return int(self._index.memory_usage)

    def settings(self) -> str:
        return "dtype=f32"


class Voyager(Engine):
    package = "voyager"

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        voyager = library("voyager", "voyager")
        space = {
            "cosine": voyager.Space.Cosine,
            "ip": voyager.Space.InnerProduct,
            "l2": voyager.Space.Euclidean,
        }[configuration.metric]
        self._index = voyager.Index(
            space,
            num_dimensions=configuration.dim,
            M=configuration.m,
            ef_construction=configuration.ef_construction,
            max_elements=configuration.items,
        )

    def build(self, base: Floats) -> None:
        self._index.add_items(base, ids=list(range(len(base))), num_threads=1)

    def searcher(self, k: int, ef: int) -> Searcher:
        query = self._index.query
        breadth = max(ef, k)  # it refuses less

        def call(queries: Floats) -> Any:
            return query(queries, k=k, num_threads=1, query_ef=breadth)

        return Searcher(
            one=call, many=call, ids=lambda found: np.atleast_2d(np.asarray(found[0])).astype(np.int64)
        )


ENGINES: dict[str, Callable[[Configuration], Engine]] = {
    "hnswlib": Hnswlib,
    "faiss-hnsw": FaissHnsw,
    "usearch": Usearch,
    "voyager": Voyager,
}
