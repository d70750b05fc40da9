"""Blended reads of two generations' results: score calibration and merging, stand-alone.

The serving path does the same natively, and scores an item that one list lacks by its id; here only the
lists are known.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore import _native
from embedcore._native import ScoreCalibration
from embedcore.errors import InvalidArgument
from embedcore.index import SearchResult

__all__ = ["ResultList", "ScoreCalibration", "blend"]


class ResultList(Protocol):
    """What :meth:`embedcore.Index.search` returns, or anything shaped like it."""

    @property
    def ids(self) -> NDArray[np.int64]:
        """(q, k) or (k,), -1 where fewer than k exist."""

    @property
    def distances(self) -> NDArray[np.float32]:
        """Of the same shape, ascending, smaller is nearer."""


def blend(
    old_result: ResultList,
    new_result: ResultList,
    weight: float,
    calibration: ScoreCalibration | None,
    k: int,
    held: ArrayLike | None = None,
) -> SearchResult:
    """Merges the results of one query, or of a batch, from an old and a new index by score.

    Lists are (q, a) and (q, b), or (a,) and (b,); the answer is (q, k) or (k,), padded with -1 and inf.
    ``weight`` in [0, 1] is the new side's; at 0 and 1 the answer is exactly that side's list (at 0 on the
    old scale, otherwise on the new). ``calibration`` maps old distances to new; None: one scale.

    An item in both lists scores (1 - weight) x calibrated old + weight x new. ``held``, shaped like the old
    ids, says whether the new index holds each item (None: it holds all): one that it does not hold keeps
    its calibrated old score alone. An item that a side holds but does not list is given that list's last
    distance, the best it could have had. Ties go to the smaller id.

    Raises ValueError for shapes that do not fit, a weight outside [0, 1], k < 1, or a listed id whose
    distance is not finite. Thread-safe; releases the GIL.
    """
    old_ids, old_distances = _checked(old_result, "old_result")
    new_ids, new_distances = _checked(new_result, "new_result")
    if old_ids.ndim != new_ids.ndim or old_ids.shape[:-1] != new_ids.shape[:-1]:
        raise InvalidArgument(
            f"results of the same queries are needed: old ids are {old_ids.shape}, new {new_ids.shape}"
        )
    if not 0 <= weight <= 1:
        raise InvalidArgument(f"weight must be in [0, 1], got {weight}")
    if k < 1:
        raise InvalidArgument(f"k must be at least 1, got {k}")
    holds = None
    if held is not None:
        holds = np.asarray(held, dtype=np.bool_)
        if holds.shape != old_ids.shape:
            raise InvalidArgument(f"held must be shaped like the old ids, {old_ids.shape}, got {holds.shape}")
        holds = np.atleast_2d(holds)
    ids, distances = _native.blend(
        np.atleast_2d(old_ids),
        np.atleast_2d(old_distances),
        np.atleast_2d(new_ids),
        np.atleast_2d(new_distances),
        float(weight),
        calibration,
        int(k),
        holds,
    )
    if old_ids.ndim == 1:
        ids, distances = ids[0], distances[0]
    return SearchResult(ids, distances)


def _checked(result: ResultList, name: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    ids: NDArray[Any] = np.asarray(result.ids)
    distances = np.asarray(result.distances, dtype=np.float32)
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2) or ids.shape != distances.shape:
        raise InvalidArgument(
            f"{name} needs whole-number ids of shape (q, k) or (k,) and as many distances, "
            f"got {ids.dtype} {ids.shape} and {distances.shape}"
        )
    ids = ids.astype(np.int64, copy=False)
    # A list ends at its first -1; what lies behind is padding.
    listed = np.logical_and.accumulate(ids >= 0, axis=-1)
    if not np.isfinite(distances[listed]).all():
        raise InvalidArgument(f"{name} lists an id whose distance is not finite")
    return ids, distances
