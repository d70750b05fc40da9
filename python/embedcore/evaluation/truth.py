"""Exact neighbours of golden queries, kept while the store has not moved: one scan serves many questions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedcore.evaluation.exact import exact_lists
from embedcore.evaluation.interface import ExactSearch, Ints, Lists
from embedcore.types import Generation, Vectors

if TYPE_CHECKING:
    from embedcore.store.interface import Store

KEPT = 64  # question sets; some 250 KB each for 400 queries at k = 50

_Key = tuple[tuple[int, ...], int, str, bytes, int]


@dataclass(frozen=True)
class Question:
    """``rows`` of the golden set ``digest``, whose vectors (q, dim) are given, to depth ``k``."""

    digest: str
    rows: Ints
    vectors: Vectors
    k: int


class ExactTruth:
    """Thread-safe. An answer holds as long as no shard's sequence has moved: every change of a vector is a
    sequenced write."""

    def __init__(self, store: Store, search: Callable[[], ExactSearch]) -> None:
        self._store = store
        self._search = search
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, Lists] = OrderedDict()

    def lists(
        self, generation: Generation, questions: Sequence[Question], allowed: Ints | None = None
    ) -> list[Lists]:
        """Per question the exact lists (q, k), ids padded with -1. What is not known is answered in one scan
        of the generation's vectors. ``allowed``: of these items only, never kept."""
        heads = tuple(self._store.head(shard) for shard in range(self._store.shards))
        keys = [(heads, generation.number, q.digest, q.rows.tobytes(), q.k) for q in questions]
        with self._lock:
            known = {key: self._kept[key] for key in keys if allowed is None and key in self._kept}
        wanted = [(key, q) for key, q in zip(keys, questions, strict=True) if key not in known]
        if wanted:
            ids, distances = exact_lists(
                self._store,
                generation.number,
                np.concatenate([q.vectors for _, q in wanted]),
                max(q.k for _, q in wanted),
                generation.fingerprint.metric,
                self._search(),
                allowed,
            )
            start = 0
            for key, q in wanted:
                span = slice(start, start + len(q.vectors))
                known[key] = (ids[span, : q.k].copy(), distances[span, : q.k].copy())
                start += len(q.vectors)
            if allowed is None:
                self._keep({key: known[key] for key, _ in wanted})
        return [known[key] for key in keys]

    def _keep(self, found: dict[_Key, Lists]) -> None:
        with self._lock:
            self._kept.update(found)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
