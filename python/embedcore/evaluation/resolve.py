"""From a golden set's item ids to dense item numbers of a store, with the long-tail bucket marked.

Long-tail rule: a query is long-tail when *all* of its relevant items are in the oldest decile of the live
items by ``created_at``. The decile's edge is computed over all live items, or over a seeded sample of
10,000 of them when there are more. Items created at the same instant as the edge are not in the decile.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedcore.evaluation.golden import GoldenSet
from embedcore.evaluation.interface import Bools, Floats, Ints
from embedcore.evaluation.ragged import Ragged

if TYPE_CHECKING:
    from embedcore.store.interface import Store

OLDEST_SHARE = 0.1
AGE_SAMPLE = 10_000
_FETCH = 1_000  # items per store call


@dataclass(frozen=True)
class ResolvedGolden:
    """The queries of a golden set whose relevant items live, as arrays of n rows. Read-only."""

    golden: GoldenSet
    digest: str
    rows: Ints  # (n,) positions in golden.queries, ascending
    relevant: Ragged  # live relevant items, grade > 0; never empty
    exclude: Ragged
    long_tail: Bools  # (n,)
    asked: int  # queries that were to be resolved
    left_out: int  # of these, without a live relevant item (or, restricted, without one in the sample)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def texts(self) -> list[str]:
        return [self.golden.queries[row].text for row in self.rows]

    @property
    def depth(self) -> int:
        """How many places excluded items can take in a result list."""
        return int(self.exclude.lengths.max(initial=0))

    def take(self, index: Ints) -> ResolvedGolden:
        """The queries at these positions of the resolved rows, which must ascend."""
        return ResolvedGolden(
            golden=self.golden,
            digest=self.digest,
            rows=self.rows[index],
            relevant=self.relevant.take(index),
            exclude=self.exclude.take(index),
            long_tail=self.long_tail[index],
            asked=self.asked,
            left_out=self.left_out,
        )

    def restrict(self, items: Ints) -> ResolvedGolden:
        """The same task on a sample of the corpus: labels outside ``items`` are dropped, and with them
        the queries that have none left."""
        relevant = self.relevant.keep(np.isin(self.relevant.items, items))
        kept = np.flatnonzero(relevant.lengths > 0)
        return ResolvedGolden(
            golden=self.golden,
            digest=self.digest,
            rows=self.rows[kept],
            relevant=relevant.take(kept),
            exclude=self.exclude.take(kept),
            long_tail=self.long_tail[kept],
            asked=self.asked,
            left_out=self.asked - len(kept),
        )


class Resolver:
    """Resolves golden sets against a store and remembers ages, which never change. Any thread may call."""

    def __init__(self, store: Store, seed: int = 0) -> None:
        self._store = store
        self._seed = seed
        self._lock = threading.Lock()
        self._created: dict[int, float] = {}
        self._edge: tuple[int, float] | None = None  # live items when it was computed, created_at

    def resolve(self, golden: GoldenSet, rows: Ints | None = None) -> ResolvedGolden:
        """``rows``: positions in ``golden.queries`` to resolve, ascending; default all."""
        chosen = np.arange(len(golden.queries), dtype=np.int64) if rows is None else rows
        queries = [golden.queries[row] for row in chosen]
        labels = [[item for item, grade in query.relevant.items() if grade > 0] for query in queries]
        relevant = self._dense(labels, golden.namespace)
        kept = np.flatnonzero(relevant.lengths > 0)
        relevant = relevant.take(kept)
        return ResolvedGolden(
            golden=golden,
            digest=golden.digest,
            rows=chosen[kept],
            relevant=relevant,
            exclude=self._dense([queries[i].exclude for i in kept], golden.namespace),
            long_tail=self._long_tail(relevant),
            asked=len(chosen),
            left_out=len(chosen) - len(kept),
        )

    def _dense(self, ids: Sequence[Sequence[str]], namespace: str) -> Ragged:
        """Live dense numbers per row; unknown and deleted ids are dropped."""
        names = list({item: None for row in ids for item in row})
        if not names:
            return Ragged.of([()] * len(ids))
        number = dict(zip(names, self._store.items_of(names, namespace).tolist(), strict=True))
        return Ragged.of([[number[item] for item in row if number[item] >= 0] for row in ids])

    def _long_tail(self, relevant: Ragged) -> Bools:
        edge = self._oldest_decile_edge()
        distinct, inverse = np.unique(relevant.items, return_inverse=True)
        old = self._created_at(distinct) < edge
        young_labels = np.bincount(relevant.row_numbers[~old[inverse]], minlength=len(relevant))
        mask: Bools = young_labels == 0
        return mask

    def _oldest_decile_edge(self) -> float:
        """created_at below which an item is in the oldest decile; kept until the count moves by 1%."""
        live = self._store.live_items()
        with self._lock:
            if self._edge is not None and abs(live - self._edge[0]) <= 0.01 * self._edge[0]:
                return self._edge[1]
        sample = self._store.sample_items(min(live, AGE_SAMPLE), self._seed)
        created = np.sort(self._created_at(sample))
        created = created[np.isfinite(created)]
        if created.size == 0:
            return -np.inf
        edge = float(created[min(int(np.ceil(OLDEST_SHARE * len(created))), len(created) - 1)])
        with self._lock:
            self._edge = (live, edge)
        return edge

    def _created_at(self, items: Ints) -> Floats:
        """(n,) seconds; inf for an item that has gone meanwhile, so that it counts as young."""
        with self._lock:
            unknown = [item for item in items.tolist() if item not in self._created]
        for start in range(0, len(unknown), _FETCH):
            found = self._store.get_items(unknown[start : start + _FETCH])
            with self._lock:
                self._created.update((stored.item, stored.created_at) for stored in found)
        with self._lock:
            return np.array([self._created.get(item, np.inf) for item in items.tolist()], dtype=np.float64)


def resolve(golden: GoldenSet, store: Store) -> ResolvedGolden:
    """One golden set against one store, without a memory for the next call."""
    return Resolver(store).resolve(golden)
