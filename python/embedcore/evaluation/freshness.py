"""Equal freshness: the items that two generations both hold, so that models are compared, not backfills."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedcore.errors import FailedPrecondition
from embedcore.evaluation.interface import Ints

if TYPE_CHECKING:
    from embedcore.store.interface import Store


def held_by_both(store: Store, source: int, target: int) -> tuple[Ints, int, int, int]:
    """(items ascending, live items, how many of these the source lacks, how many the target lacks).

    An item is held when its *current* version's vector is stored. FailedPrecondition when none is by both.
    """
    live = store.live_items()
    items = store.sample_items(live, 0)
    lacking = [
        np.array([item.item for item in store.missing_items(generation, live)], dtype=np.int64)
        for generation in (source, target)
    ]
    both = np.setdiff1d(items, np.concatenate(lacking), assume_unique=False).astype(np.int64)
    if len(both) == 0:
        raise FailedPrecondition(
            f"no item is held by both generation {source} and generation {target}; let the backfill go on"
        )
    return both, live, len(lacking[0]), len(lacking[1])
