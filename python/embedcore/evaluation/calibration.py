"""Score calibration between two generations, from items that both hold and real queries.

Distances of two models live on different scales. A monotone map from the source's to the target's is fitted
on pairs (source distance, target distance) of one query to one item: the top of the source's lists, which is
where blending decides, and random background items, so that the far end is not an extrapolation. Before
there are such pairs the two background distributions are matched by their quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.interface import Floats, Ints, SearchBackend
from embedcore.types import Document, Generation, Vectors

if TYPE_CHECKING:
    from embedcore.dual_write import ScoreCalibration
    from embedcore.store.interface import Store

MIN_PAIRS = 8
ENOUGH_PAIRS = 200  # fewer tell less than the two background distributions do
SAMPLED = 4_096  # items looked through for some that a generation holds
BACKGROUND_ITEMS = 256
_QUANTILES = 1_024
TOP = 20  # of the source's list, per query
BACKGROUND = 20  # random items, per query


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
    """float64 (n,) distances of the same (query, item) in both generations."""

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
    """Fits the pairs, or the matched backgrounds while there are fewer than 200 pairs. FailedPrecondition
    when neither has 8."""
    cold = len(near.source) < ENOUGH_PAIRS and background is not None and len(background.source) >= MIN_PAIRS
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
    """Pairs for queries given as (q, d) and (q, e), row i the same query under both models.

    Only items whose current vectors both generations hold give pairs. Distances are computed from the
    stored vectors, so what the target's index has applied so far plays no part.
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
    near, _ = backend.search_generation(source.number, source_queries, top, max(ef_search, top))
    pool = store.sample_items(min(store.live_items(), queries * background), seed)
    far = pool[rng.integers(0, len(pool), size=(queries, background))]
    pairs = np.concatenate([near, far], axis=1)
    rows, columns = np.nonzero(pairs >= 0)
    asked = np.unique(np.stack([rows, pairs[rows, columns]]), axis=1)
    items = np.unique(asked[1])
    old_items, old_vectors = store.stored_vectors(source.number, items)
    new_items, new_vectors = store.stored_vectors(target.number, items)
    asked = asked[:, np.isin(asked[1], np.intersect1d(old_items, new_items))]
    if asked.shape[1] == 0:
        return CalibrationPairs(np.zeros(0), np.zeros(0), 0, 0)
    return CalibrationPairs(
        _distances(source_queries, asked, old_items, old_vectors, source.fingerprint.metric),
        _distances(target_queries, asked, new_items, new_vectors, target.fingerprint.metric),
        queries=len(np.unique(asked[0])),
        items=len(np.unique(asked[1])),
    )


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
        chosen = [item for item in pool.tolist() if item in set(held.tolist())][:BACKGROUND_ITEMS]
        if len(chosen) < MIN_PAIRS or len(queries) == 0:
            return CalibrationPairs(np.zeros(0), np.zeros(0), 0, 0)
        rows = order[np.searchsorted(held[order], chosen)]
        asked = np.stack(
            [np.repeat(np.arange(len(queries)), len(chosen)), np.tile(np.array(chosen), len(queries))]
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
