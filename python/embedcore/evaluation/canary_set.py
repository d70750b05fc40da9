"""The canary set's verdict: how far a new model's vectors are from the old one's for the same items.

SPEC of the protocol, phase 0: mean cosine of old to new above 0.95 is called incremental; below 0.80, and
whenever the dimensions differ, a full backfill is needed before any comparison means something; between
them is treated as full. A verdict never skips backfill or gates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import InvalidArgument
from embedcore.types import Document, Vectors

if TYPE_CHECKING:
    from embedcore.store.interface import Store

INCREMENTAL_ABOVE = 0.95
FULL_BELOW = 0.80
CANARY_SEED = 1_000_003  # fixed, so that every migration of a corpus looks at the same items


class CanaryVerdict(Document):
    """``mean_cosine`` and ``p05_cosine`` are None when the dimensions differ."""

    verdict: Literal["incremental", "full"]
    mean_cosine: float | None
    p05_cosine: float | None  # 5% of the items are below it
    items: int
    reason: str


def canary_items(store: Store, count: int) -> NDArray[np.int64]:
    """Dense numbers of the canary set, ascending: the same for the same contents of the store."""
    return store.sample_items(min(count, store.live_items()), CANARY_SEED)


def canary_verdict(old: Vectors, new: Vectors) -> CanaryVerdict:
    """``old`` (n, d) and ``new`` (n, e): vectors of the same n items, row by row. InvalidArgument when the
    rows differ in number, or there are none."""
    if old.ndim != 2 or new.ndim != 2 or len(old) != len(new) or len(old) == 0:
        raise InvalidArgument(
            f"a canary verdict needs both models' vectors of the same items, got {old.shape} and {new.shape}"
        )
    if old.shape[1] != new.shape[1]:
        return CanaryVerdict(
            verdict="full",
            mean_cosine=None,
            p05_cosine=None,
            items=len(old),
            reason=f"dimensions differ: {old.shape[1]} and {new.shape[1]}",
        )
    cosine = _row_cosines(old.astype(np.float64), new.astype(np.float64))
    mean = float(cosine.mean())
    if mean > INCREMENTAL_ABOVE:
        verdict: Literal["incremental", "full"] = "incremental"
        reason = f"mean cosine {mean:.3f} > {INCREMENTAL_ABOVE}"
    elif mean < FULL_BELOW:
        verdict, reason = "full", f"mean cosine {mean:.3f} < {FULL_BELOW}"
    else:
        verdict = "full"
        reason = f"mean cosine {mean:.3f} between {FULL_BELOW} and {INCREMENTAL_ABOVE}: treated as full"
    return CanaryVerdict(
        verdict=verdict,
        mean_cosine=mean,
        p05_cosine=float(np.quantile(cosine, 0.05)),
        items=len(old),
        reason=reason,
    )


def _row_cosines(old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.float64]:
    norms = np.linalg.norm(old, axis=1) * np.linalg.norm(new, axis=1)
    dots = np.einsum("ij,ij->i", old, new)
    # A vector of norm 0 has no direction; it counts as having nothing in common.
    cosines: NDArray[np.float64] = np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0)
    return cosines
