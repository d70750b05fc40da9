"""embedcore, in the configurations that a user would choose between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.engines.base import Configuration, Engine, Floats, NotAvailable, Searcher, library


class Embedcore(Engine):
    package = "embedcore"

    def __init__(self, configuration: Configuration, options: dict[str, str]) -> None:
        super().__init__(configuration)
        embedcore = library("embedcore", "embedcore")
        self._options = options
        try:
            self._index = embedcore.Index(
                configuration.dim,
                configuration.metric,
                m=configuration.m,
                ef_construction=configuration.ef_construction,
                capacity=configuration.items,
                **options,
            )
        except (ValueError, TypeError) as error:
            raise NotAvailable(f"this version refuses it: {error}") from error

    def build(self, base: Floats) -> None:
        self._index.add(np.arange(len(base)), base, threads=1)

    def searcher(self, k: int, ef: int) -> Searcher:
        search = self._index.search

        def call(queries: Floats) -> Any:
            return search(queries, k=k, ef_search=ef, threads=1)

        return Searcher(one=call, many=call, ids=lambda found: np.atleast_2d(found.ids))

    def memory_bytes(self) -> int:
        return int(self._index.memory_bytes)

    def settings(self) -> str:
        chosen = [f"{name}={value}" for name, value in self._options.items()]
        codes = getattr(self._index, "codes", None)
        return ", ".join([*chosen, f"codes in use: {codes}"] if codes else chosen)


def _variant(**options: str) -> Callable[[Configuration], Engine]:
    return lambda configuration: Embedcore(configuration, options)


ENGINES: dict[str, Callable[[Configuration], Engine]] = {
    "embedcore": _variant(dtype="float32", codes="auto"),
    "embedcore-f16": _variant(dtype="float16", codes="auto"),
    "embedcore-none": _variant(dtype="float32", codes="none"),
    "embedcore-int8": _variant(dtype="float32", codes="int8"),
    "embedcore-lean": _variant(dtype="int8", codes="auto"),
    "embedcore-fast": _variant(dtype="float32", codes="auto", preset="fast"),
}
