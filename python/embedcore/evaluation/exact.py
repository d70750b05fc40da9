"""Recall against exact search: the quality of an index, apart from the quality of the model in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedcore.errors import FailedPrecondition
from embedcore.evaluation.interface import ExactSearch, Floats, Ints, Lists, Metric
from embedcore.types import Vectors

if TYPE_CHECKING:
    from embedcore.store.interface import Store

_BLOCK = 16_384  # vectors read at once: 25 MB at 384 dimensions


def exact_lists(
    store: Store,
    generation: int,
    queries: Vectors,
    k: int,
    metric: Metric,
    search: ExactSearch,
    allowed: Ints | None = None,
) -> Lists:
    """The exact k nearest current vectors of a generation, from the store and in blocks: ids (q, k) padded
    with -1, distances padded with inf. ``allowed``: of these items only. Memory: one block and the lists."""
    ids = np.full((len(queries), k), -1, np.int64)
    distances = np.full((len(queries), k), np.inf, np.float32)
    for shard in range(store.shards):
        after = -1
        while True:
            items, vectors = store.scan_vectors(generation, shard, after, _BLOCK)
            if len(items) == 0:
                break
            after = int(items[-1])
            if allowed is not None:
                wanted = np.isin(items, allowed)
                items, vectors = items[wanted], vectors[wanted]
                if len(items) == 0:
                    continue
            found = search(vectors, queries, min(k, len(items)), metric)
            block = np.where(found.ids >= 0, items[found.ids], -1)
            merged = np.concatenate([distances, found.distances], axis=1)
            order = np.argsort(merged, axis=1, kind="stable")[:, :k]
            distances = np.take_along_axis(merged, order, 1)
            ids = np.take_along_axis(np.concatenate([ids, block], axis=1), order, 1)
    return ids, distances


def index_recall(found: Lists, exact: Lists) -> Floats:
    """(q,) share of the exact k nearest that an index returned, by distance so that ties count as found.

    Rows have equal k; a query whose exact list is empty has no recall and raises FailedPrecondition.
    """
    possible = (exact[0] >= 0).sum(axis=1)
    if np.any(possible == 0):
        raise FailedPrecondition("recall against exact search needs vectors; the generation holds none")
    last = np.where(exact[0] >= 0, exact[1], -np.inf).max(axis=1)
    near = (found[0] >= 0) & (found[1] <= (last + 1e-6 * np.maximum(1.0, np.abs(last)))[:, None])
    recall: Floats = np.minimum(near.sum(axis=1), possible) / possible
    return recall
