"""Random programs of a stepped DualWriter against a model of dicts: every call, on every lane."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import embedcore
from embedcore.dual_writer import DualWriter, Write

from .writers import DictIndex, Log, rows, vector

ALL = 2**40
ITEMS = st.integers(0, 5)


@dataclass
class Entry:
    sequence: int
    item: int
    removed: bool
    vectors: dict[int, float]  # by the lane that they were handed in for
    lanes: set[int] | None


@dataclass
class Lane:
    """What a lane should hold: the stream from `start` on, folded up to `applied`."""

    index: DictIndex
    column: int
    applied: int
    log: Log | None = None
    items: dict[int, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)

    def apply(self, number: int, entry: Entry) -> None:
        self.applied = entry.sequence
        if entry.lanes is not None and number not in entry.lanes:
            return
        self.items.pop(entry.item, None)
        self.failed.discard(entry.item)
        if entry.removed:
            return
        if self.column in entry.vectors:
            self.items[entry.item] = entry.vectors[self.column]
        else:
            self.failed.add(entry.item)


class Programs(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 6), sourced=st.booleans())
    def open(self, capacity: int, sourced: bool) -> None:
        self.capacity = capacity
        self.stream: list[Entry] = []
        self.lanes = {0: Lane(DictIndex(), 0, 0), 1: Lane(DictIndex(), 1, 0, Log() if sourced else None)}
        self.next_lane = 2
        self.version = 0.0
        self.writer = DualWriter(
            [lane.index for lane in self.lanes.values()],
            capacity=capacity,
            threads=0,
            sources=[lane.log for lane in self.lanes.values()],
        )

    def _write(self, items: list[int], removed: bool, given: set[int], lanes: set[int] | None) -> None:
        versions = [self.version + i + 1 for i in range(len(items))]
        self.version += len(items)
        arrays = [rows(versions) if lane in given else None for lane in range(self.next_lane)]
        blocked = any(
            lane.log is None and len(self.stream) + len(items) - lane.applied > self.capacity
            for lane in self.lanes.values()
        )
        only = None if lanes is None else sorted(lanes)

        def call() -> int:
            if removed:
                return self.writer.remove(items, timeout=0, lanes=only)
            return self.writer.upsert(items, arrays, timeout=0, lanes=only)

        if len(items) > self.capacity:
            with pytest.raises(ValueError, match="do not fit"):
                call()
            return
        if blocked:
            with pytest.raises(embedcore.WouldBlock):
                call()
            return
        for item, version in zip(items, versions, strict=True):
            vectors = {} if removed else dict.fromkeys(given, version)
            self.stream.append(Entry(len(self.stream) + 1, item, removed, vectors, lanes))
            for number, lane in self.lanes.items():
                if lane.log is not None and (lanes is None or number in lanes):
                    known = vector(version) if lane.column in vectors else None
                    lane.log.put(Write(len(self.stream), item, known, removed))
                elif lane.log is not None:  # a log has every number
                    lane.log.put(Write(len(self.stream), 1000, None, True))
        assert call() == len(self.stream)

    @rule(items=st.lists(ITEMS, min_size=1, max_size=4, unique=True), missing=st.sets(st.integers(0, 3)))
    def upsert(self, items: list[int], missing: set[int]) -> None:
        columns = {lane.column for lane in self.lanes.values()}
        self._write(items, False, columns - missing, None)

    @rule(items=st.lists(ITEMS, min_size=1, max_size=4, unique=True))
    def remove(self, items: list[int]) -> None:
        self._write(items, True, set(), None)

    @precondition(lambda self: self.lanes)
    @rule(items=st.lists(ITEMS, min_size=1, max_size=2, unique=True), data=st.data())
    def write_to_one(self, items: list[int], data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.lanes)))
        self._write(items, False, {self.lanes[lane].column}, {lane})

    @precondition(lambda self: self.lanes)
    @rule(n=st.integers(0, 5), data=st.data())
    def step(self, n: int, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.lanes)))
        lane = self.lanes[number]
        if lane.log is not None:  # from the ring or from its source: what it holds is compared at the end
            self.writer.step(number, n)
            return
        due = self.stream[lane.applied : lane.applied + n]
        assert self.writer.step(number, n) == len(due)
        for entry in due:
            lane.apply(number, entry)

    @rule(data=st.data(), twin=st.booleans(), back=st.none() | st.integers(0, 8))
    def attach(self, data: st.DataObject, twin: bool, back: int | None) -> None:
        if len(self.lanes) == 4 or (twin and not self.lanes):
            return
        of = data.draw(st.sampled_from(sorted(self.lanes))) if twin else None
        column = self.next_lane if of is None else self.lanes[of].column
        start = len(self.stream) if back is None else max(0, len(self.stream) - back)
        sequence = None if back is None else start + 1
        index = DictIndex()
        if len(self.stream) - start > self.capacity:
            with pytest.raises(ValueError, match="has left the ring"):
                self.writer.attach(index, from_sequence=sequence, vectors_of=of)
            return
        assert self.writer.attach(index, from_sequence=sequence, vectors_of=of) == self.next_lane
        # Writes that named their lanes before this one was there are not for it.
        self.lanes[self.next_lane] = Lane(index, column, start)
        self.next_lane += 1

    @precondition(lambda self: self.lanes)
    @rule(data=st.data())
    def detach(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.lanes)))
        self.writer.detach(number)
        del self.lanes[number]

    @precondition(lambda self: self.lanes)
    @rule(data=st.data())
    def swap(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.lanes)))
        lane = self.lanes[number]
        if lane.log is not None:
            return
        twins = [n for n, other in self.lanes.items() if other.column == lane.column and other.log is None]
        other = self.lanes[data.draw(st.sampled_from(twins))]
        if other is lane:
            lane.index = DictIndex()
            assert self.writer.swap(number, lane.index) == lane.applied
            lane.items = {}
            return
        together = max(lane.applied, other.applied)
        for n, one in self.lanes.items():
            if one is lane or one is other:
                for entry in self.stream[one.applied : together]:
                    one.apply(n, entry)
        assert self.writer.swap(number, other.index) == together
        lane.index, other.index = other.index, lane.index
        lane.items, other.items = other.items, lane.items
        lane.failed, other.failed = other.failed, lane.failed

    @invariant()
    def lanes_hold_what_they_should(self) -> None:
        if not hasattr(self, "writer"):
            return
        assert self.writer.lanes == sorted(self.lanes)
        for number, lane in self.lanes.items():
            if lane.log is None:
                assert lane.index.items == lane.items
                assert set(self.writer.failures(number)) == lane.failed
                assert self.writer.applied[number] == lane.applied

    def teardown(self) -> None:
        if not hasattr(self, "writer"):
            return
        for number in self.lanes:
            self.writer.step(number, ALL)
        if self.lanes:
            self.writer.wait(len(self.stream), timeout=0)
        for number, lane in self.lanes.items():
            for entry in self.stream[lane.applied :]:
                lane.apply(number, entry)
            assert lane.index.items == lane.items
            assert set(self.writer.failures(number)) == lane.failed
            assert not self.writer.stats(number)["parked"]
        self.writer.close()


TestPrograms = Programs.TestCase
TestPrograms.settings = settings(max_examples=300, stateful_step_count=40, deadline=None, derandomize=True)


def test_the_same_steps_build_the_same_indexes() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(600, 8)).astype(np.float32)
    found = []
    for _ in range(2):
        index = embedcore.Index(8, "l2")
        with DualWriter([index], capacity=64, threads=0) as writer:
            for at in range(0, 600, 20):
                writer.upsert(range(at, at + 20), [vectors[at : at + 20]])
                writer.step(0, 2**20)
        found.append(index.search(vectors[:50], k=20, ef_search=20))
    np.testing.assert_array_equal(found[0].ids, found[1].ids)
    np.testing.assert_array_equal(found[0].distances, found[1].distances)
