"""The exact neighbours, and recall against them.

Truth comes from NumPy, not from the library that is measured: blocks of matrix products in float32 choose
candidates, which are then ranked in double precision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

# float32 may swap neighbours at the edge of k: that many more are kept and ranked in double.
_MARGIN = 20
_QUERIES_AT_ONCE = 128
_ITEMS_AT_ONCE = 65_536
_PAIRS_AT_ONCE = 20_000
# Items at the same distance as the k-th are as right as the k-th: WordNet has synsets of equal text.
_TIE = 1e-6


def exact_neighbours(base: Floats, queries: Floats, k: int, metric: str) -> Ids:
    """(q, k) row numbers, nearest first, equal distances by row number. Vectors are normalised for cosine."""
    k = min(k, len(base))
    keep = min(k + _MARGIN, len(base))
    half_norms = 0.5 * np.einsum("ij,ij->i", base, base) if metric == "l2" else None
    answer = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        rows = queries[start : start + _QUERIES_AT_ONCE]
        candidates = np.empty((len(rows), 0), dtype=np.int64)
        scores = np.empty((len(rows), 0), dtype=np.float32)
        for at in range(0, len(base), _ITEMS_AT_ONCE):
            # Largest first: dot, or dot - |x|^2 / 2, which orders like the distance.
            part = rows @ base[at : at + _ITEMS_AT_ONCE].T
            if half_norms is not None:
                part -= half_norms[at : at + _ITEMS_AT_ONCE]
            best = _largest(part, keep)
            candidates = np.hstack([candidates, best + at])
            scores = np.hstack([scores, np.take_along_axis(part, best, axis=1)])
            chosen = _largest(scores, keep)
            candidates = np.take_along_axis(candidates, chosen, axis=1)
            scores = np.take_along_axis(scores, chosen, axis=1)
        for row, mine in enumerate(candidates):
            mine = np.sort(mine)
            ranked = np.argsort(distances(base, rows[row], mine, metric), kind="stable")[:k]
            answer[start + row] = mine[ranked]
    return answer


def distances(base: Floats, query: Floats, ids: Ids, metric: str) -> NDArray[np.float64]:
    """In double precision: 1 - dot, or squared L2."""
    items = base[ids].astype(np.float64)
    wanted = query.astype(np.float64)
    if metric == "l2":
        return np.asarray(((items - wanted) ** 2).sum(axis=-1))
    return np.asarray(1.0 - items @ wanted)


def recall(base: Floats, queries: Floats, truth: Ids, found: NDArray[np.integer], metric: str) -> float:
    """Mean share of the k of ``found`` (q, k) that are among the k nearest. An id given twice counts once;
    an id as near as the k-th of ``truth`` counts; fewer than k (-1, or a narrower array) lowers it."""
    k, n = found.shape[1], len(base)
    nearest = truth[:, :k].astype(np.int64)
    answers = np.sort(found.astype(np.int64), axis=1)
    valid = (answers >= 0) & (answers < n)
    valid[:, 1:] &= answers[:, 1:] != answers[:, :-1]
    offsets = np.arange(len(found), dtype=np.int64)[:, None] * n
    hit = valid & np.isin(answers + offsets, nearest + offsets)
    rows, columns = np.nonzero(valid & ~hit)
    worst = _pair_distances(base, queries, rows, nearest[rows, -1], metric)
    given = _pair_distances(base, queries, rows, answers[rows, columns], metric)
    ties = given <= worst + _TIE * np.maximum(1.0, np.abs(worst))
    return (int(hit.sum()) + int(ties.sum())) / nearest.size


def _pair_distances(base: Floats, queries: Floats, rows: Ids, ids: Ids, metric: str) -> NDArray[np.float64]:
    """Of query ``rows[i]`` to item ``ids[i]``, in blocks: a hundred neighbours each are gigabytes."""
    answer = np.empty(len(rows), dtype=np.float64)
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        items = base[ids[part]].astype(np.float64)
        wanted = queries[rows[part]].astype(np.float64)
        if metric == "l2":
            answer[part] = ((items - wanted) ** 2).sum(axis=1)
        else:
            answer[part] = 1.0 - np.einsum("ij,ij->i", items, wanted)
    return answer


def _largest(scores: Floats, count: int) -> NDArray[np.int64]:
    if scores.shape[1] <= count:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape).copy()
    return np.argpartition(scores, scores.shape[1] - count, axis=1)[:, -count:]
