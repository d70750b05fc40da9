"""What evaluation needs from others: something that searches, something that encodes, exact search.

Evaluation sits below serving and migration, so it names what it uses as protocols; serving implements
:class:`SearchBackend`, the encoder registry is a :class:`QueryEncoders`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from embedcore.types import Vectors

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Metric = Literal["cosine", "ip", "l2"]
Lists = tuple[NDArray[np.int64], NDArray[np.float32]]  # (q, k) dense ids, -1 pad; distances, inf pad

# Called as (what, done, total) from the thread that runs the step; raise in it to cancel.
Progress = Callable[[str, int, int], None]


class SearchBackend(Protocol):
    """Batch searches on the live indexes. Rows are queries, ascending in distance, padded with -1 and inf."""

    def search_generation(
        self, generation: int, queries: Vectors, k: int, ef_search: int, allowed: Ints | None = None
    ) -> Lists:
        """The k nearest of one generation's indexes, all shards merged; ``allowed``: of these items only."""

    def search_blended(self, consumer: str, queries: Mapping[int, Vectors], k: int, weight: float) -> Lists:
        """As a consumer at this weight would be answered; ``queries``: generation -> its query vectors."""


class QueryEncoders(Protocol):
    """Text to vectors by model name; float32 (n, dim). ``encode_bulk`` must not evict cached queries."""

    def encode_queries(self, model: str, texts: Sequence[str]) -> Vectors: ...
    def encode_bulk(self, model: str, texts: Sequence[str]) -> Vectors: ...


class ListsResult(Protocol):
    @property
    def ids(self) -> NDArray[np.int64]: ...
    @property
    def distances(self) -> NDArray[np.float32]: ...


class ExactSearch(Protocol):
    """``embedcore.exact_search``: ids are row numbers of ``base``."""

    def __call__(self, base: Vectors, queries: Vectors, k: int, metric: Metric) -> ListsResult: ...


def no_progress(what: str, done: int, total: int) -> None:
    """The default progress callback."""


def native_exact_search() -> ExactSearch:
    """``embedcore.exact_search``, loaded when first needed: evaluation's mathematics runs without it."""
    from embedcore.exact import exact_search

    search: ExactSearch = exact_search
    return search
