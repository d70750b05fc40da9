"""Random histories against a plain dict: writes, deletes, re-adds, late vectors with stale versions,
generations that come and go in between, crashes by reopening, lanes that follow in any rhythm, and a log and
tombstones that are pruned behind them."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from embedcore.clock import ManualClock
from embedcore.store import SqlStore, open_store
from embedcore.store.interface import ItemWrite
from embedcore.store.retention import backfill_hold, lane_hold
from embedcore.types import StoredItem
from store.builders import apply, follow, model, vector

SHARDS = 2
# Few of them, so that histories of one item get long.
KEYS = st.sampled_from([("a", ""), ("b", ""), ("c", ""), ("a", "n")])
MAX_GENERATIONS = 4


@dataclass
class Entry:
    """What the store must hold of one item."""

    version: int = 0
    deleted: bool = False
    content: str | None = None
    vectors: dict[int, tuple[int, float]] = field(default_factory=dict)  # generation -> version, value
    waiting: set[int] = field(default_factory=set)  # generations with a repair entry
    pruned: bool = False  # its tombstone has gone


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="store-machine-"))
        self.clock = ManualClock()
        self.store: SqlStore = open_store(self.directory, self.clock, shards=SHARDS)
        self.entries: dict[tuple[str, str], Entry] = {}
        self.live: list[int] = []
        self.retired: list[int] = []
        self.indexes: dict[tuple[int, int], dict[int, float]] = {}
        self.applied: dict[tuple[int, int], int] = {}
        self.born: dict[tuple[int, int], int] = {}
        self.values = 0.0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    @initialize()
    def first_generation(self) -> None:
        self.store.put_model(model("m"))
        self.create_generation()

    @precondition(lambda self: len(self.live) + len(self.retired) < MAX_GENERATIONS)
    @rule()
    def create_generation(self) -> None:
        number = self.store.create_generation("m", "filling", self.clock.now()).number
        self.live.append(number)
        for shard in range(SHARDS):
            self.indexes[number, shard] = {}
            # Nothing before it was ever meant for it, so its lane stands here, wherever it says it does.
            self.born[number, shard] = self.store.head(shard)
            self.applied[number, shard] = 0

    @precondition(lambda self: len(self.live) > 1)
    @rule(which=st.integers(0, 9))
    def retire_generation(self, which: int) -> None:
        number = self.live.pop(which % len(self.live))
        (generation,) = (found for found in self.store.generations() if found.number == number)
        self.store.put_generation(generation.model_copy(update={"state": "retired"}))
        self.store.drop_generation_vectors(number)
        self.retired.append(number)
        for entry in self.entries.values():
            entry.vectors.pop(number, None)
            entry.waiting.discard(number)
        for shard in range(SHARDS):
            del self.indexes[number, shard], self.applied[number, shard]

    @rule(batch=st.lists(st.tuples(KEYS, st.integers(0, 15)), min_size=1, max_size=5))
    def write(self, batch: list[tuple[tuple[str, str], int]]) -> None:
        """The second number of each pair says in bits which generations get a vector."""
        writes = []
        for (name, namespace), bits in batch:
            self.values += 1.0
            given = [number for number in self.live + self.retired if bits >> (number - 1) & 1]
            writes.append(
                ItemWrite(
                    name,
                    namespace,
                    content=None if bits == 0 else f"text {self.values}",
                    attributes={"bits": bits},
                    vectors={number: vector(self.values) for number in given},
                )
            )
        receipt = self.store.write_items(writes)
        for write, version in zip(writes, receipt.versions, strict=True):
            entry = self.entries.setdefault((write.id, write.namespace), Entry())
            if (
                entry.version == 0 or entry.pruned
            ):  # an id that is new to its shard counts on from what is gone
                assert version > entry.version
                entry.version = version
            else:
                entry.version += 1
            entry.deleted = entry.pruned = False
            entry.content = write.content
            assert version == entry.version
        # The last write of each id decides about vectors.
        for write in {(write.id, write.namespace): write for write in writes}.values():
            entry = self.entries[write.id, write.namespace]
            for number in self.live:
                if number in write.vectors:
                    entry.vectors[number] = (entry.version, float(write.vectors[number][0]))
                    entry.waiting.discard(number)
                else:
                    entry.waiting.add(number)
        assert receipt.repairs == sum(
            number not in write.vectors
            for write in {(write.id, write.namespace): write for write in writes}.values()
            for number in self.live
        )

    @rule(
        names=st.lists(st.sampled_from("abcx"), min_size=1, max_size=4), namespace=st.sampled_from(["", "n"])
    )
    def delete(self, names: list[str], namespace: str) -> None:
        receipt = self.store.delete_items(names, namespace)
        expected = []
        for name in names:
            entry = self.entries.get((name, namespace))
            if entry is None or entry.deleted:
                expected.append(0)
                continue
            entry.version += 1
            entry.deleted, entry.content = True, None
            entry.vectors.clear()
            entry.waiting.clear()
            expected.append(entry.version)
        assert list(receipt.versions) == expected

    @rule(
        keys=st.lists(KEYS, min_size=1, max_size=4, unique=True),
        which=st.integers(0, 9),
        age=st.integers(-1, 2),
    )
    def late_vectors(self, keys: list[tuple[str, str]], which: int, age: int) -> None:
        """A backfill or repair that read the items ``age`` versions ago."""
        known = self.live + self.retired
        number = known[which % len(known)]
        rows = []
        expected = 0
        for name, namespace in keys:
            entry = self.entries.get((name, namespace))
            stored = self.store.get_item(name, namespace)
            if entry is None or stored is None:
                continue
            self.values += 1.0
            rows.append((stored.item, entry.version - age, vector(self.values)))
            if age == 0 and not entry.deleted and number in self.live:
                entry.vectors[number] = (entry.version, self.values)
                entry.waiting.discard(number)
                expected += 1
        assert self.store.write_vectors(number, rows) == (expected, len(rows) - expected)

    @rule(which=st.integers(0, 9), shard=st.integers(0, SHARDS - 1), limit=st.integers(1, 6))
    def step_a_lane(self, which: int, shard: int, limit: int) -> None:
        key = (self.live[which % len(self.live)], shard)
        batch = self.store.read_lane(*key, self.applied[key], limit)
        if batch is not None:
            assert batch.upto > self.applied[key]
            apply(self.indexes[key], batch)
            self.applied[key] = batch.upto

    @rule(which=st.integers(0, 9), shard=st.integers(0, SHARDS - 1))
    def rebuild_a_lane(self, which: int, shard: int) -> None:
        key = (self.live[which % len(self.live)], shard)
        self.applied[key] = self.store.head(shard)
        items, rows = self.store.scan_vectors(*key, -1, 100)
        self.indexes[key] = dict(zip(items.tolist(), rows[:, 0].tolist(), strict=True))

    @rule(which=st.integers(0, 9), shard=st.integers(0, SHARDS - 1))
    def hold_less(self, which: int, shard: int) -> None:
        """A lane needs nothing any more of what it has applied, a backfill nothing at all."""
        number = self.live[which % len(self.live)]
        at = max(self.applied[number, shard], self.born[number, shard])
        self.store.release(backfill_hold(number), shard)
        self.store.hold(lane_hold(number), shard, at, generation=number)
        for (name, namespace), entry in self.entries.items():
            if entry.deleted and self.store.get_item(name, namespace) is None:
                entry.pruned = True
        slowest = min(max(self.applied[one, shard], self.born[one, shard]) for one in self.live)
        assert self.store.pruned(shard) <= slowest

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.directory, self.clock)

    @rule(seconds=st.integers(1, 100))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_store_is_the_dict(self) -> None:
        assert self.store.verify() == []
        stored: dict[tuple[str, str], StoredItem] = {}
        for (name, namespace), entry in self.entries.items():
            found = self.store.get_item(name, namespace)
            if entry.pruned:
                assert found is None
                continue
            assert found is not None
            assert (found.version, found.deleted, found.content) == (
                entry.version,
                entry.deleted,
                entry.content,
            )
            assert found.held == {number: version for number, (version, _) in entry.vectors.items()}
            stored[name, namespace] = found
        assert self.store.live_items() == sum(not entry.deleted for entry in self.entries.values())
        for generation in self.live:
            self.check_generation(generation, stored)
            for shard in range(SHARDS):
                self.check_lane(generation, shard, stored)

    def check_generation(self, generation: int, stored: dict[tuple[str, str], StoredItem]) -> None:
        """Vectors, repair entries, coverage and missing items, each against the dict."""
        waiting = {stored[key].item for key, entry in self.entries.items() if generation in entry.waiting}
        assert {entry.item for entry in self.store.repairs(generation, 100)} == waiting
        expected = {
            stored[key].item: entry.vectors[generation][1]
            for key, entry in self.entries.items()
            if entry.vectors.get(generation, (0,))[0] == entry.version
        }
        numbers = np.array([found.item for found in stored.values()], dtype=np.int64)
        items, rows = self.store.stored_vectors(generation, numbers)
        assert dict(zip(items.tolist(), rows[:, 0].tolist(), strict=True)) == expected
        heads = {shard: self.store.head(shard) for shard in range(SHARDS)}
        assert self.store.coverage(generation, heads).covered == len(expected)
        alive = {found.item for found in stored.values() if not found.deleted}
        missing = {found.item for found in self.store.missing_items(generation, 100)}
        assert missing == alive - set(expected)

    def check_lane(self, generation: int, shard: int, stored: dict[tuple[str, str], StoredItem]) -> None:
        """A lane that catches up from wherever it stands ends with exactly what the store holds."""
        caught_up = dict(self.indexes[generation, shard])
        follow(self.store, generation, shard, caught_up, self.applied[generation, shard], limit=100)
        assert caught_up == {
            stored[key].item: entry.vectors[generation][1]
            for key, entry in self.entries.items()
            if generation in entry.vectors and stored[key].shard == shard
        }


StoreMachine.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestStore = StoreMachine.TestCase
