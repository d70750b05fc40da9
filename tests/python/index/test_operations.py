"""Random sequences of operations against a dict and brute force (hypothesis shrinks and replays them).

Vectors are small whole numbers under L2, so that every distance is exact and lists can be compared as they
are. ef_search covers the whole graph, so that a search must be exact, too: a miss is a broken graph.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import embedcore

DIM = 3
IDS = st.integers(0, 25)
VECTORS = st.tuples(*[st.integers(-4, 4)] * DIM)
WIDE = 10_000


class IndexAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index = embedcore.Index(DIM, "l2", m=2, ef_construction=8)
        self.items: dict[int, tuple[int, ...]] = {}

    @rule(items=st.dictionaries(IDS, VECTORS, max_size=12), threads=st.sampled_from([1, 2]))
    def add(self, items: dict[int, tuple[int, ...]], threads: int) -> None:
        self.index.add(
            list(items), np.array(list(items.values()), np.float32).reshape(-1, DIM), threads=threads
        )
        self.items.update(items)

    @rule(ids=st.lists(IDS, max_size=8))
    def remove(self, ids: list[int]) -> None:
        present = {i for i in ids if i in self.items}
        assert self.index.remove(ids) == len(present)
        for i in present:
            del self.items[i]

    @rule()
    def repair(self) -> None:
        self.index.repair()

    @rule()
    def compact(self) -> None:
        dead = self.index.tombstones
        assert self.index.compact().freed == dead
        assert self.index.tombstones == 0

    @rule()
    def relocate(self) -> None:
        self.index.relocate()

    @rule()
    def compact_and_relocate(self) -> None:
        self.index.compact()
        self.index.relocate()
        slots = self.index.stats()["slots"]
        assert (slots["total"], slots["free"], slots["retired"]) == (len(self.items), 0, 0)

    @rule()
    def save_and_load(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            self.index.save(path)
            dead = self.index.tombstones
            self.index = embedcore.Index.load(path)
            assert self.index.tombstones == dead

    @rule(query=VECTORS, k=st.integers(1, 30))
    def search(self, query: tuple[int, ...], k: int) -> None:
        found = self.index.search(np.array(query, np.float32), k=k, ef_search=WIDE)
        self._compare(found, query, set(self.items), k)

    @rule(query=VECTORS, allowed=st.sets(IDS, max_size=10), as_callable=st.booleans())
    def search_filtered(self, query: tuple[int, ...], allowed: set[int], as_callable: bool) -> None:
        allow = allowed.__contains__ if as_callable else np.array(sorted(allowed), np.int64)
        found = self.index.search(np.array(query, np.float32), k=5, ef_search=WIDE, filter=allow)
        self._compare(found, query, allowed & set(self.items), 5)

    @rule(query=VECTORS, radius=st.integers(0, 60))
    def range_search(self, query: tuple[int, ...], radius: int) -> None:
        found = self.index.range_search(np.array(query, np.float32), radius, ef_search=WIDE)
        within = {i for i in self.items if self._distance(i, query) <= radius}
        assert set(found.ids.tolist()) == within
        assert len(found.ids) == len(within)

    @rule(query=VECTORS)
    def scores(self, query: tuple[int, ...]) -> None:
        ids = np.arange(26)
        for i, score in zip(ids.tolist(), self.index.scores(np.array(query, np.float32), ids), strict=True):
            if i in self.items:
                assert score == self._distance(i, query)
            else:
                assert np.isnan(score)

    @invariant()
    def contents_are_equal(self) -> None:
        assert self.index.ids().tolist() == sorted(self.items)
        assert len(self.index) == len(self.items)
        expected = [list(self.items[i]) for i in sorted(self.items)]
        assert self.index.get(sorted(self.items)).tolist() == expected
        assert self.index.check() == []

    def _distance(self, item: int, query: tuple[int, ...]) -> int:
        return sum((a - b) ** 2 for a, b in zip(self.items[item], query, strict=True))

    def _compare(
        self, found: embedcore.SearchResult, query: tuple[int, ...], among: set[int], k: int
    ) -> None:
        count = min(k, len(among))
        ids = found.ids[:count].tolist()
        assert len(set(ids)) == count
        assert set(ids) <= among
        assert (found.ids[count:] == -1).all()
        assert found.distances[:count].tolist() == [self._distance(i, query) for i in ids]
        nearest = sorted(self._distance(i, query) for i in among)
        assert found.distances[:count].tolist() == nearest[:count]


TestIndexAgainstDict = IndexAgainstDict.TestCase
TestIndexAgainstDict.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
