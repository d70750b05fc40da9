"""Which items the pre-flight embeds: few, yet so chosen that many golden queries can be asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedcore.evaluation.canary_set import canary_items
from embedcore.evaluation.interface import Floats, Ints
from embedcore.evaluation.resolve import ResolvedGolden

if TYPE_CHECKING:
    from embedcore.store.interface import Store


@dataclass(frozen=True)
class Sample:
    items: Ints  # ascending, dense numbers
    canary: Ints  # of these, the fixed canary set


def choose_sample(
    store: Store, resolved: Sequence[ResolvedGolden], items: int, canary: int, seed: int
) -> Sample:
    """At most ``items`` live items: the canary set (at most half of them; random, so it stands for the
    corpus), items that the golden queries' labels name, and random fillers for what is left.

    Labelled items that serve several consumers come first, weighed by how scarce each consumer's labels
    are; ties are broken by the seed. The choice looks at no vectors, so it favours neither model.
    """
    fixed = canary_items(store, min(canary, items // 2))
    candidates, weight = _label_weights(resolved)
    new = ~np.isin(candidates, fixed)
    candidates, weight = candidates[new], weight[new]
    tie = np.random.default_rng(seed).random(len(candidates))
    labelled = candidates[np.lexsort((tie, -weight))][: items - len(fixed)]
    chosen = np.union1d(fixed, labelled)
    if len(chosen) < items:
        pool = store.sample_items(min(store.live_items(), items), seed)
        fillers = np.setdiff1d(pool, chosen)
        fillers = np.random.default_rng(seed).permutation(fillers)[: items - len(chosen)]
        chosen = np.union1d(chosen, fillers)
    return Sample(chosen.astype(np.int64), fixed)


def _label_weights(resolved: Sequence[ResolvedGolden]) -> tuple[Ints, Floats]:
    """Items that any consumer's labels name, and the sum over these consumers of 1 / (items it names)."""
    per_consumer = [np.unique(one.relevant.items) for one in resolved if len(one)]
    if not per_consumer:
        return np.zeros(0, np.int64), np.zeros(0)
    items, inverse = np.unique(np.concatenate(per_consumer), return_inverse=True)
    shares = np.concatenate([np.full(len(named), 1.0 / len(named)) for named in per_consumer])
    weights: Floats = np.bincount(inverse, weights=shares).astype(np.float64)
    return items, weights
