"""Peers with other graphs or compressed codes: SVS (Vamana), VSAG (HGraph), zvec, glass (static HNSW)."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines.base import (
    Configuration,
    Engine,
    Floats,
    NotAvailable,
    Searcher,
    library,
    padded,
)


class Svs(Engine):
    """Vamana over float32. Its compressed codes (LVQ) work on processors of one vendor only."""

    package = "scalable-vs"

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self._svs = library("svs", "scalable-vs")
        self._index: Any = None
        if configuration.metric == "ip":
            self._distance, self._alpha = self._svs.DistanceType.MIP, 0.95
        else:  # unit vectors order alike by L2, for which alpha above 1 is defined
            self._distance, self._alpha = self._svs.DistanceType.L2, 1.2

    def build(self, base: Floats) -> None:
        parameters = self._svs.VamanaBuildParameters(
            alpha=self._alpha,
            graph_max_degree=4 * self.configuration.m,
            window_size=self.configuration.ef_construction,
        )
        self._index = self._svs.Vamana.build(parameters, base, self._distance, num_threads=1)

    def searcher(self, k: int, ef: int) -> Searcher:
        self._index.search_window_size = max(ef, k)
        search = self._index.search

        def call(queries: Floats) -> Any:
            return search(queries, k)

        return Searcher(one=call, many=call, ids=lambda found: np.atleast_2d(found[0]).astype(np.int64))

    def settings(self) -> str:
        return f"degree {4 * self.configuration.m}, alpha {self._alpha}, float32"


class Vsag(Engine):
    """HGraph. The library has no call for a batch of queries."""

    package = "pyvsag"

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        pyvsag = library("pyvsag", "pyvsag")
        pyvsag.set_logger_off()
        self._index = pyvsag.Index(
            "hgraph",
            json.dumps(
                {
                    "dtype": "float32",
                    "metric_type": configuration.metric,
                    "dim": configuration.dim,
                    "index_param": {
                        "base_quantization_type": "sq8_uniform",
                        "use_reorder": True,
                        "precise_quantization_type": "fp32",
                        "max_degree": 2 * configuration.m,
                        "ef_construction": configuration.ef_construction,
                        "build_thread_count": 1,
                    },
                }
            ),
        )

    def build(self, base: Floats) -> None:
        count, dim = base.shape
        self._index.build(base.reshape(-1), np.arange(count), count, dim)

    def searcher(self, k: int, ef: int) -> Searcher:
        search = self._index.knn_search
        parameters = json.dumps({"hgraph": {"ef_search": max(ef, k)}})

        def ids(found: tuple[NDArray[Any], NDArray[Any]]) -> NDArray[np.integer]:
            mine = next(part for part in found if np.asarray(part).dtype.kind in "iu")
            return padded([np.asarray(mine).reshape(-1).tolist()], k)

        return Searcher(one=lambda row: search(row, k, parameters), many=None, ids=ids)

    def settings(self) -> str:
        return "sq8_uniform, reorder in fp32"


class Zvec(Engine):
    """An embedded database with files of its own; a query answers documents, and there is no batch."""

    package = "zvec"
    _AT_ONCE = 1_000  # it takes no more in one call

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        zvec = self._zvec = library("zvec", "zvec")
        with contextlib.suppress(RuntimeError):  # once per process
            zvec.init(log_level=zvec.LogLevel.ERROR, query_threads=1, optimize_threads=1)
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        metric = {"cosine": "COSINE", "ip": "IP", "l2": "L2"}[configuration.metric]
        graph = zvec.HnswIndexParam(
            metric_type=getattr(zvec.MetricType, metric),
            m=configuration.m,
            ef_construction=configuration.ef_construction,
            quantize_type=zvec.QuantizeType.INT8,
        )
        vector = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, configuration.dim, index_param=graph)
        self._collection = zvec.create_and_open(
            path=str(Path(self._folder.name) / "collection"),
            schema=zvec.CollectionSchema(name="bench", vectors=vector),
        )

    def build(self, base: Floats) -> None:
        for start in range(0, len(base), self._AT_ONCE):
            self._collection.insert(
                [
                    self._zvec.Doc(id=str(start + row), vectors={"v": vector})
                    for row, vector in enumerate(base[start : start + self._AT_ONCE])
                ]
            )
        self._collection.flush()
        self._collection.optimize()

    def searcher(self, k: int, ef: int) -> Searcher:
        query, request = self._collection.query, self._zvec.Query
        parameters = self._zvec.HnswQueryParam(ef=max(ef, k), is_using_refiner=True)
        return Searcher(
            one=lambda row: query(request(field_name="v", vector=row, param=parameters), topk=k),
            many=None,
            ids=lambda found: padded([[int(document.id) for document in found]], k),
        )

    def settings(self) -> str:
        return "int8, refined in float32; a database"


class Glass(Engine):
    """pyglass: no insert and no delete after the build, the strongest peer where that is enough."""

    package = "glass"

    def __init__(self, configuration: Configuration, codes: str) -> None:
        super().__init__(configuration)
        self._glass = library("glass", "glass (pyglass, see bench/README.md)")
        if not hasattr(self._glass, "Searcher"):
            raise NotAvailable("the module called glass is not pyglass")
        self._glass.set_num_threads(1)
        self._metric = "L2" if configuration.metric == "l2" else "IP"
        self._codes = codes
        self._searcher: Any = None

    def build(self, base: Floats) -> None:
        chosen = self.configuration
        # The graph is built on 8-bit codes in both cases: on 4-bit codes its quality drops.
        builder = self._glass.Index("HNSW", self._metric, "SQ8U", 2 * chosen.m, chosen.ef_construction)
        graph = builder.build(base)
        self._searcher = self._glass.Searcher(graph, base, self._metric, self._codes, "FP32")

    def tune(self) -> None:
        self._searcher.optimize(1)  # tries prefetch distances on a thousand of the items

    def searcher(self, k: int, ef: int) -> Searcher:
        self._searcher.set_ef(max(ef, k))
        one, many = self._searcher.search, self._searcher.batch_search
        return Searcher(
            one=lambda row: one(row, k),
            many=lambda rows: many(rows, k, 1),
            ids=lambda found: np.atleast_2d(found[0]),
        )

    def settings(self) -> str:
        return f"{self._codes}, graph on SQ8U, refined in FP32"


def _glass(codes: str) -> Callable[[Configuration], Engine]:
    return lambda configuration: Glass(configuration, codes)


ENGINES: dict[str, Callable[[Configuration], Engine]] = {
    "svs": Svs,
    "vsag": Vsag,
    "zvec": Zvec,
    "glass-sq8u": _glass("SQ8U"),
    "glass-sq4u": _glass("SQ4U"),
}
