"""From a golden set's item ids to dense item numbers of a store, with each query's bucket.

Buckets. A query is *tail* when all of its relevant items are in the oldest decile of the live items by
``created_at``, or when its own bucket (from the query log: how often it is asked) says so. Otherwise it is
what its own bucket says, head or torso; without one it is head when all of its items are in the newest
decile, and torso. The deciles' edges are computed over all live items, or over a seeded sample of 10,000 of
them when there are more. Items created at the same instant as an edge are not in the decile. Any other
bucket that a golden set names is reported beside these three.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedcore.evaluation.golden import GoldenSet
from embedcore.evaluation.interface import Bools, Floats, Ints
from embedcore.evaluation.ragged import Ragged

if TYPE_CHECKING:
    from embedcore.store.interface import Store

BUCKETS = ("head", "torso", "tail")
HEAD, TORSO, TAIL = range(3)
DECILE = 0.1
AGE_SAMPLE = 10_000
_FETCH = 1_000  # items per store call


@dataclass(frozen=True)
class ResolvedGolden:
    """The queries of a golden set whose relevant items live, as arrays of n rows. Read-only."""

    golden: GoldenSet
    digest: str
    rows: Ints  # (n,) positions in golden.queries, ascending
    relevant: Ragged  # live relevant items, grade > 0; never empty
    grades: Floats  # of each of relevant.items
    exclude: Ragged
    bucket: Ints  # (n,) head 0, torso 1, tail 2
    asked: int  # queries that were to be resolved
    left_out: int  # of these, without a live relevant item (or, restricted, without one in the sample)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def long_tail(self) -> Bools:
        mask: Bools = self.bucket == TAIL
        return mask

    @property
    def own_buckets(self) -> dict[str, Bools]:
        """Masks of the buckets that the golden set names itself, beyond head, torso and tail."""
        named = [self.golden.queries[row].bucket for row in self.rows]
        others = sorted(set(named) - {"", *BUCKETS})
        return {name: np.array([one == name for one in named], dtype=np.bool_) for name in others}

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
            grades=self.grades[self.relevant.places(index)],
            exclude=self.exclude.take(index),
            bucket=self.bucket[index],
            asked=self.asked,
            left_out=self.left_out,
        )

    def restrict(self, items: Ints) -> ResolvedGolden:
        """The same task on a sample of the corpus: labels outside ``items`` are dropped, and with them
        the queries that have none left."""
        inside = np.isin(self.relevant.items, items)
        relevant, grades = self.relevant.keep(inside), self.grades[inside]
        kept = np.flatnonzero(relevant.lengths > 0)
        return ResolvedGolden(
            golden=self.golden,
            digest=self.digest,
            rows=self.rows[kept],
            relevant=relevant.take(kept),
            grades=grades[relevant.places(kept)],
            exclude=self.exclude.take(kept),
            bucket=self.bucket[kept],
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
        self._edge: tuple[int, tuple[float, float]] | None = None  # live items when they were computed, edges

    def resolve(self, golden: GoldenSet, rows: Ints | None = None) -> ResolvedGolden:
        """``rows``: positions in ``golden.queries`` to resolve, ascending; default all."""
        chosen = np.arange(len(golden.queries), dtype=np.int64) if rows is None else rows
        queries = [golden.queries[row] for row in chosen]
        labels = [[item for item, grade in query.relevant.items() if grade > 0] for query in queries]
        live = self._live(labels, golden.namespace)
        relevant = _ragged(labels, live)
        graded = zip(queries, labels, strict=True)
        grades = np.array(
            [query.relevant[item] for query, row in graded for item in row if item in live], dtype=np.float64
        )
        kept = np.flatnonzero(relevant.lengths > 0)
        excluded = [queries[i].exclude for i in kept]
        return ResolvedGolden(
            golden=golden,
            digest=golden.digest,
            rows=chosen[kept],
            relevant=relevant.take(kept),
            grades=grades[relevant.places(kept)],
            exclude=_ragged(excluded, self._live(excluded, golden.namespace)),
            bucket=self._buckets(relevant.take(kept), [queries[i].bucket for i in kept]),
            asked=len(chosen),
            left_out=len(chosen) - len(kept),
        )

    def _live(self, ids: Sequence[Sequence[str]], namespace: str) -> dict[str, int]:
        """Id -> dense number, of those that live."""
        names = list({item: None for row in ids for item in row})
        if not names:
            return {}
        numbers = self._store.items_of(names, namespace).tolist()
        return {name: number for name, number in zip(names, numbers, strict=True) if number >= 0}

    def _buckets(self, relevant: Ragged, own: Sequence[str]) -> Ints:
        old, new = self._edges()
        distinct, inverse = np.unique(relevant.items, return_inverse=True)
        created = self._created_at(distinct)[inverse]

        def none(outside: Bools) -> Bools:
            mask: Bools = np.bincount(relevant.row_numbers[outside], minlength=len(relevant)) == 0
            return mask

        bucket = np.where(none(created <= new), HEAD, TORSO).astype(np.int64)
        stated = np.array([BUCKETS.index(name) if name in BUCKETS else -1 for name in own], dtype=np.int64)
        bucket = np.where(stated >= 0, stated, bucket)
        return np.where(none(created >= old), TAIL, bucket)

    def _edges(self) -> tuple[float, float]:
        """created_at below which an item is in the oldest decile, and above which it is in the newest; kept
        until the count of live items moves by 1%."""
        live = self._store.live_items()
        with self._lock:
            if self._edge is not None and abs(live - self._edge[0]) <= 0.01 * self._edge[0]:
                return self._edge[1]
        sample = self._store.sample_items(min(live, AGE_SAMPLE), self._seed)
        created = np.sort(self._created_at(sample))
        created = created[np.isfinite(created)]
        if created.size == 0:
            return -np.inf, np.inf
        last = len(created) - 1
        place = min(int(np.ceil(DECILE * len(created))), last)
        edges = float(created[place]), float(created[last - place])
        with self._lock:
            self._edge = (live, edges)
        return edges

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


def _ragged(ids: Sequence[Sequence[str]], number: Mapping[str, int]) -> Ragged:
    """Dense numbers per row; ids without one are dropped."""
    return Ragged.of([[number[item] for item in row if item in number] for row in ids])
