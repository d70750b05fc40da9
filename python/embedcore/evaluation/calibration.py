"""Score calibration between two generations, from items that both hold and real queries.

Distances of two models live on different scales. Blending scores an item that the target does not hold yet by
its mapped source distance, beside items scored by the target: it must neither gain nor lose by that. So the
map is an *equating*, not a regression: the distance of the j-th nearest of the items that both hold, under
the source, is paired with that of the j-th nearest under the target, query by query (equipercentile equating;
Kolen & Brennan, "Test Equating, Scaling, and Linking", 3rd ed., ch. 2). Pairs of one item's two distances
would be regressed: the source's best items are less outstanding to the target, the fitted map draws what only
the source holds towards the mean, and back-filled items push it out of the lists.

The top of the lists is paired, which is where blending decides, and random background items, so that the far
end is not an extrapolation. Before there are such pairs the two background distributions are matched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.interface import Bools, Floats, Ints, SearchBackend
from embedcore.types import Document, Generation, Vectors

if TYPE_CHECKING:
    from embedcore.dual_write import ScoreCalibration
    from embedcore.store.interface import Store

MIN_PAIRS = 8
ENOUGH_ITEMS = 100  # held by both; fewer tell less than the two background distributions do
SAMPLED = 4_096  # items looked through for some that a generation holds
BACKGROUND_ITEMS = 256
_QUANTILES = 1_024
TOP = 20  # of each list, per query
BACKGROUND = 20  # random items, per query
_DEEPER = 3  # lists are read so much deeper than ``top``: not every listed item is held by both


class FittedCalibration(Document):
    """A calibration as it is kept with the target generation, and what it rests on."""

    source: int
    target: int
    method: Literal["pairs", "background"]
    data: str  # hexadecimal ScoreCalibration.to_bytes()
    pairs: int
    queries: int
    items: int
    error: float  # root mean square of mapped minus target distance over the pairs it was fitted on
    at: float
    seed: int


@dataclass(frozen=True)
class CalibrationPairs:
    """float64 (n,): distances at the same rank, under the source and under the target, of one query's items
    that both generations hold."""

    source: Floats
    target: Floats
    queries: int
    items: int

    def fit(self) -> ScoreCalibration:
        """FailedPrecondition below 8 pairs: there is nothing to fit yet; blend with identity or wait."""
        if len(self.source) < MIN_PAIRS:
            raise FailedPrecondition(
                f"a score calibration needs at least {MIN_PAIRS} pairs of items that both generations hold, "
                f"got {len(self.source)}; let the backfill go on"
            )
        from embedcore.dual_write import ScoreCalibration

        return ScoreCalibration.fit(self.source, self.target)


def fit_pairs(
    near: CalibrationPairs,
    background: CalibrationPairs | None,
    source: int,
    target: int,
    *,
    at: float,
    seed: int,
) -> FittedCalibration:
    """Fits the pairs, or the matched backgrounds while both hold fewer than 100 of the items looked at.
    FailedPrecondition when neither has 8 pairs."""
    cold = near.items < ENOUGH_ITEMS and background is not None and len(background.source) >= MIN_PAIRS
    used = background if cold and background is not None else near
    fitted = used.fit()
    off = np.asarray(fitted(used.source)) - used.target
    return FittedCalibration(
        source=source,
        target=target,
        method="background" if cold else "pairs",
        data=bytes(fitted.to_bytes()).hex(),
        pairs=len(used.source),
        queries=used.queries,
        items=used.items,
        error=float(np.sqrt(np.mean(off**2))),
        at=at,
        seed=seed,
    )


def collect_pairs(
    store: Store,
    backend: SearchBackend,
    source: Generation,
    target: Generation,
    source_queries: Vectors,
    target_queries: Vectors,
    *,
    ef_search: int = 100,
    top: int = TOP,
    background: int = BACKGROUND,
    seed: int = 0,
) -> CalibrationPairs:
    """Pairs for queries given as (q, d) and (q, e), row i the same query under both models: the ``top``
    nearest of both sides' lists and ``background`` random items, of those whose current vectors both hold.
    """
    if len(source_queries) != len(target_queries):
        raise InvalidArgument(
            f"expected both models' vectors of the same queries, got {len(source_queries)} and "
            f"{len(target_queries)} rows"
        )
    queries = len(source_queries)
    if queries == 0 or store.live_items() == 0:
        return CalibrationPairs(np.zeros(0), np.zeros(0), queries, 0)
    rng = np.random.default_rng(seed)
    depth = max(ef_search, _DEEPER * top)
    lists = [
        backend.search_generation(generation.number, asked, _DEEPER * top, depth)
        for generation, asked in ((source, source_queries), (target, target_queries))
    ]
    pool = store.sample_items(min(store.live_items(), queries * background), seed)
    listed = np.unique(np.concatenate([pool, *(ids[ids >= 0] for ids, _ in lists)]))
    old_items, old_vectors = store.stored_vectors(source.number, listed)
    new_items, new_vectors = store.stored_vectors(target.number, listed)
    both = np.intersect1d(old_items, new_items)
    (before, old_kept), (after, new_kept) = (_nearest(ids, far, both, top) for ids, far in lists)
    near = old_kept & new_kept
    pool = np.intersect1d(pool, both)
    if len(pool) == 0:
        return CalibrationPairs(before[near], after[near], int(near.any(axis=1).sum()), len(both))
    rng = np.random.default_rng(seed)
    drawn = pool[rng.integers(0, len(pool), size=(queries, background))]
    rows = np.repeat(np.arange(queries), background)
    pairs = np.stack([rows, drawn.ravel()])
    far_old = _distances(source_queries, pairs, old_items, old_vectors, source.fingerprint.metric)
    far_new = _distances(target_queries, pairs, new_items, new_vectors, target.fingerprint.metric)
    return CalibrationPairs(
        np.concatenate([before[near], np.sort(far_old.reshape(queries, background), axis=1).ravel()]),
        np.concatenate([after[near], np.sort(far_new.reshape(queries, background), axis=1).ravel()]),
        queries=queries,
        items=len(both),
    )


def _nearest(ids: Ints, distances: NDArray[np.float32], both: Ints, top: int) -> tuple[Floats, Bools]:
    """(q, top): the distances of the first listed items that are in ``both``, and which of them there are.
    A list that is not cut off before them gives the nearest of these items in order."""
    wanted = np.isin(ids, both) & (ids >= 0)
    order = np.argsort(~wanted, axis=1, kind="stable")[:, :top]
    kept: Bools = np.take_along_axis(wanted, order, 1)
    found = np.take_along_axis(distances, order, 1).astype(np.float64)
    return np.where(kept, found, 0.0), kept


def background_pairs(
    store: Store,
    source: Generation,
    target: Generation,
    source_queries: Vectors,
    target_queries: Vectors,
    *,
    seed: int = 0,
) -> CalibrationPairs:
    """Cold start, when both hold hardly an item in common: quantiles of the distances of random items that
    each holds *by itself*, matched in order. A monotone map takes the one distribution to the other whatever
    items they come from. No pairs when either side holds fewer than 8 of the items that were looked at."""
    pool = np.random.default_rng(seed).permutation(store.sample_items(min(store.live_items(), SAMPLED), seed))
    sides = []
    for generation, queries in ((source, source_queries), (target, target_queries)):
        held, vectors = store.stored_vectors(generation.number, pool)
        order = np.argsort(held)
        chosen = pool[np.isin(pool, held)][:BACKGROUND_ITEMS]
        if len(chosen) < MIN_PAIRS or len(queries) == 0:
            return CalibrationPairs(np.zeros(0), np.zeros(0), 0, 0)
        rows = order[np.searchsorted(held[order], chosen)]
        asked = np.stack(
            [np.repeat(np.arange(len(queries)), len(chosen)), np.tile(chosen, len(queries))]
        ).astype(np.int64)
        far = _distances(queries, asked, held[rows], vectors[rows], generation.fingerprint.metric)
        sides.append(np.quantile(far, np.linspace(0, 1, min(_QUANTILES, len(far)))))
    length = min(len(side) for side in sides)
    levels = np.linspace(0, 1, length)
    old, new = (np.interp(levels, np.linspace(0, 1, len(side)), side) for side in sides)
    return CalibrationPairs(old, new, queries=len(source_queries), items=0)


def _distances(
    queries: Vectors, asked: NDArray[np.int64], items: Ints, vectors: Vectors, metric: str
) -> Floats:
    """(n,) of the pairs (query row, item) as the index counts them: 1 - cos, 1 - dot or squared L2."""
    order = np.argsort(items)
    rows = order[np.searchsorted(items[order], asked[1])]
    left = queries[asked[0]].astype(np.float64)
    right = vectors[rows].astype(np.float64)
    if metric == "l2":
        squared: Floats = np.square(left - right).sum(axis=1)
        return squared
    dots: Floats = np.einsum("ij,ij->i", left, right)
    if metric == "ip":
        return 1.0 - dots
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines: Floats = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return 1.0 - cosines
