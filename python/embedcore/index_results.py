"""What calls of the index return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class SearchResult:
    """What a search returns: (q, k) arrays, or (k,) for a single query of shape (dim,).

    ``ids`` is int64, nearest first, -1 where fewer than k exist. ``distances`` is float32, ascending, inf
    where the id is -1. ``stats``, on request, maps "hops" (nodes expanded), "distances" (distances computed)
    and "nanoseconds" (of wall time; in a batch, of the group of up to 64 queries that were answered together)
    to uint64 (q,). Compared by identity.
    """

    __slots__ = ("distances", "ids", "stats")

    # A plain class, as one is made for every search: a frozen dataclass takes four times as long to make.
    def __init__(
        self,
        ids: NDArray[np.int64],
        distances: NDArray[np.float32],
        stats: dict[str, NDArray[np.uint64]] | None = None,
    ) -> None:
        self.ids = ids
        self.distances = distances
        self.stats = stats

    def __repr__(self) -> str:
        return f"SearchResult(ids={self.ids!r}, distances={self.distances!r}, stats={self.stats!r})"


@dataclass(frozen=True, slots=True)
class Report:
    """What a call of repair, compact or relocate did.

    Nodes looked at; nodes relinked or moved; slots given back for reuse, or, by relocate, to the system; and
    whether nothing was left to do.
    """

    examined: int
    changed: int
    freed: int
    done: bool
