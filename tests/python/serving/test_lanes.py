"""Lanes over a real store and real indexes: following, failures, threads, waiting, rebuilds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcore.clock import ManualClock
from embedcore.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from embedcore.index import Index
from embedcore.serving.lanes import Lane, LaneSet
from embedcore.serving.refusals import RefusalRecord
from embedcore.store import SqlStore, open_store
from embedcore.store.interface import ItemWrite, LaneBatch
from embedcore.types import Fingerprint, ModelSpec, Vector, Vectors

DIMENSION = 8


@pytest.fixture(params=[1, 4], ids=["one shard", "four shards"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    store = open_store(tmp_path, ManualClock(), shards=request.param)
    fingerprint = Fingerprint(model="m", revision="1", dimension=DIMENSION)
    store.put_model(ModelSpec(name="m", backend="external", fingerprint=fingerprint))
    store.create_generation("m", "serving", 0.0)
    yield store
    store.close()


def vector(seed: int) -> Vector:
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def put(store: SqlStore, *names: str, seed: int = 0, generations: tuple[int, ...] = (1,)) -> dict[int, int]:
    writes = [
        ItemWrite(name, vectors={number: vector(seed + at) for number in generations})
        for at, name in enumerate(names)
    ]
    return dict(store.write_items(writes).token)


def new_lanes(store: SqlStore, generation: int = 1) -> list[Lane]:
    return [Lane(store, generation, shard, Index(dim=DIMENSION)) for shard in range(store.shards)]


def attached(store: SqlStore, *, threads: bool) -> tuple[LaneSet, list[Lane]]:
    lanes = LaneSet(store, ManualClock(), threads=threads)
    made = new_lanes(store)
    for lane in made:
        lanes.attach(lane)
    return lanes, made


def contents(lane: Lane) -> dict[int, list[float]]:
    index: Any = lane.index
    ids = index.ids()
    return dict(zip(ids.tolist(), index.get(ids).tolist(), strict=True))


def stored(store: SqlStore, generation: int, shard: int) -> dict[int, list[float]]:
    items, rows = store.scan_vectors(generation, shard, -1, 10_000)
    return dict(zip(items.tolist(), rows.tolist(), strict=True))


def assert_follow(store: SqlStore, lanes: list[Lane]) -> None:
    for lane in lanes:
        assert contents(lane) == stored(store, lane.generation, lane.shard)
        assert lane.lag == 0


class PickyIndex:
    """Refuses some items; remembers the rest."""

    def __init__(self, refused: set[int]) -> None:
        self.refused = refused
        self.held: dict[int, Vector] = {}

    def add(self, ids: np.ndarray, vectors: Vectors, threads: int = 0) -> None:
        bad = self.refused.intersection(ids.tolist())
        if bad:
            raise ValueError(f"item {min(bad)} is refused")
        self.held.update(zip(ids.tolist(), vectors, strict=True))

    def remove(self, ids: np.ndarray) -> int:
        return sum(self.held.pop(item, None) is not None for item in ids.tolist())


def test_a_lane_steps_to_the_head(store: SqlStore) -> None:
    lanes = new_lanes(store)
    put(store, *"abcdefgh")
    store.delete_items(["a", "b"])
    put(store, *"cd", seed=50)
    for lane in lanes:
        assert lane.applied == 0
        assert lane.lag == store.head(lane.shard)
        moved = 0
        while step := lane.step(limit=2):
            moved += step
        assert moved == lane.applied == store.head(lane.shard)
        assert lane.step() == 0
    assert_follow(store, lanes)
    assert sum(len(contents(lane)) for lane in lanes) == 6


def test_an_item_that_the_index_refuses_is_recorded_and_holds_up_nobody(store: SqlStore) -> None:
    put(store, *"abcdefgh")
    names = dict(zip("abcdefgh", store.items_of(list("abcdefgh")).tolist(), strict=True))
    stored_b = store.get_item("b")
    assert stored_b is not None
    index = PickyIndex({names["b"]})
    lane = Lane(store, 1, stored_b.shard, index)
    while lane.step():
        pass
    assert lane.failures == {names["b"]: f"item {names['b']} is refused"}
    expected = set(stored(store, 1, stored_b.shard)) - {names["b"]}
    assert set(index.held) == expected
    assert lane.stats()["failed"] == 1
    assert lane.stats()["succeeded"] == len(expected)
    index.refused.clear()
    put(store, "b")
    lane.step()
    assert lane.failures == {}
    assert names["b"] in index.held


def test_the_failure_record_is_durable_before_the_lane_moves_on(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "a")
    found = store.get_item("a")
    assert found is not None
    lane = Lane(store, 1, found.shard, PickyIndex({found.item}))

    def full(*_: Any) -> None:
        raise ResourceExhausted("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(SqlStore, "put_checkpoint", full)
        with pytest.raises(ResourceExhausted):
            lane.step()
    assert (lane.applied, lane.failures) == (0, {})
    lane.step()
    assert list(lane.failures) == RefusalRecord(store, 1, found.shard).read() == [found.item]
    put(store, "a", seed=9)
    lane.step()
    assert RefusalRecord(store, 1, found.shard).read() == [found.item]  # refused again
    store.delete_items(["a"])
    lane.step()
    assert RefusalRecord(store, 1, found.shard).read() == []


def test_a_deleted_item_leaves_the_failure_record(store: SqlStore) -> None:
    put(store, "a")
    found = store.get_item("a")
    assert found is not None
    lane = Lane(store, 1, found.shard, PickyIndex({found.item}))
    lane.step()
    assert list(lane.failures) == [found.item]
    store.delete_items(["a"])
    lane.step()
    assert lane.failures == {}


def test_the_real_index_refuses_a_zero_vector_alone(store: SqlStore) -> None:
    store.write_items([ItemWrite("zero", vectors={1: np.zeros(DIMENSION, np.float32)})])
    put(store, *"abcdefgh")
    found = store.get_item("zero")
    assert found is not None
    lanes = new_lanes(store)
    for lane in lanes:
        while lane.step():
            pass
        assert list(lane.failures) == ([found.item] if lane.shard == found.shard else [])
        assert set(contents(lane)) == set(stored(store, 1, lane.shard)) - {found.item}


def test_an_error_of_the_store_leaves_the_lane_where_it_is(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lane, *_) = new_lanes(store)
    put(store, *"abcdefgh")

    def fail(*_: object) -> None:
        raise Unavailable("disk is away")

    with monkeypatch.context() as patch:
        patch.setattr(store, "read_lane", fail)
        with pytest.raises(Unavailable):
            lane.step()
    assert lane.applied == 0
    lane.step()
    assert lane.applied == store.head(0)


def test_threads_follow_commits_and_a_token_can_be_waited_for(store: SqlStore) -> None:
    lanes, made = attached(store, threads=True)
    try:
        for round_ in range(10):
            token = put(store, *"abcdefgh", seed=round_)
            assert lanes.wait(token, [1], deadline_s=30.0)
            applied = lanes.applied(1)
            assert all(applied[shard] >= sequence for shard, sequence in token.items())
            token = dict(store.delete_items(["a", "h"]).token)
            assert lanes.wait(token, [1], deadline_s=30.0)
            assert_follow(store, made)
    finally:
        lanes.close()


def test_concurrent_writers_and_lanes_end_equal(store: SqlStore) -> None:
    lanes, made = attached(store, threads=True)
    try:

        def write_many(writer: int) -> None:
            for number in range(20):
                put(store, f"i{number % 5}", f"{writer}-{number}", seed=writer * 1000 + number)
                if number % 4 == 3:
                    store.delete_items([f"i{(number + 1) % 5}"])

        writers = [threading.Thread(target=write_many, args=(writer,)) for writer in range(3)]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
        heads = {shard: store.head(shard) for shard in range(store.shards)}
        assert lanes.wait(heads, [1], deadline_s=60.0)
        assert_follow(store, made)
    finally:
        lanes.close()


def test_no_thread_steps_by_itself_between_commits(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never busy-waiting: reads of the log are bounded by the commits, not by the time."""
    reads: list[int] = []
    read_lane = store.read_lane

    def counting(generation: int, shard: int, after: int, limit: int) -> LaneBatch | None:
        reads.append(shard)
        return read_lane(generation, shard, after, limit)

    monkeypatch.setattr(store, "read_lane", counting)
    lanes, _ = attached(store, threads=True)
    try:
        commits = 5
        for seed in range(commits):
            assert lanes.wait(put(store, "a", seed=seed), [1], deadline_s=30.0)
        # Every wake-up reads once per batch and once to find the head.
        assert len(reads) <= 2 * store.shards * (commits + 1)
    finally:
        lanes.close()


def test_a_lane_recovers_from_an_error_of_the_store(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("embedcore.serving.lanes._RETRY_S", 0.01)
    failing = threading.Event()
    failed = threading.Event()
    read_lane = store.read_lane

    def sometimes(generation: int, shard: int, after: int, limit: int) -> LaneBatch | None:
        if failing.is_set():
            failed.set()
            raise Unavailable("disk is away")
        return read_lane(generation, shard, after, limit)

    monkeypatch.setattr(store, "read_lane", sometimes)
    lanes, made = attached(store, threads=True)
    try:
        failing.set()
        token = put(store, *"abcdefgh")
        assert failed.wait(30)
        assert not lanes.wait(token, [1], deadline_s=0.05)
        failing.clear()
        assert lanes.wait(token, [1], deadline_s=30.0)
        assert_follow(store, made)
        assert "disk is away" in caplog.text
    finally:
        lanes.close()


def test_waiting_ends_at_the_deadline_and_when_the_generation_goes(store: SqlStore) -> None:
    lanes, _ = attached(store, threads=True)
    try:
        ahead = {0: store.head(0) + 5}
        assert not lanes.wait(ahead, [1], deadline_s=0.01)
        assert lanes.wait({}, [1], deadline_s=0.0)
        assert not lanes.wait({0: 0}, [7], deadline_s=30.0)  # no such lane: at once
        with pytest.raises(InvalidArgument, match="shard 99"):
            lanes.wait({99: 1}, [1], deadline_s=30.0)
        answers: list[bool] = []
        waiter = threading.Thread(target=lambda: answers.append(lanes.wait(ahead, [1], deadline_s=60.0)))
        waiter.start()
        lanes.detach(1)
        waiter.join(timeout=30)
        assert answers == [False]
        with pytest.raises(NotFound):
            lanes.applied(1)
        lanes.detach(1)
    finally:
        lanes.close()


def test_without_threads_nothing_moves_until_asked(store: SqlStore) -> None:
    lanes, made = attached(store, threads=False)
    token = put(store, *"abcdefgh")
    assert set(lanes.applied(1).values()) == {0}
    assert lanes.step(limit=1) == store.shards
    assert set(lanes.applied(1).values()) == {1}
    assert lanes.wait(token, [1], deadline_s=0.0)
    more = put(store, *"abcdefgh", seed=9)
    lanes.drain()
    assert lanes.applied(1) == more
    assert not lanes.wait({0: store.head(0) + 1}, [1], deadline_s=60.0)
    assert_follow(store, made)
    lanes.close()


def test_attach_swap_and_detach(store: SqlStore) -> None:
    lanes, made = attached(store, threads=True)
    try:
        with pytest.raises(AlreadyExists, match="swap"):
            lanes.attach(new_lanes(store)[0])
        put(store, *"abcdefgh")
        replacement = new_lanes(store)[0]
        assert lanes.swap(replacement) is made[0]
        assert lanes.of(1) == [replacement, *made[1:]]
        stopped_at = made[0].applied
        token = put(store, *"abcdefgh", seed=3)
        assert lanes.wait(token, [1], deadline_s=30.0)
        assert made[0].applied == stopped_at
        assert_follow(store, lanes.of(1))
        with pytest.raises(NotFound, match="no lane to replace"):
            lanes.swap(Lane(store, 5, 0, Index(dim=DIMENSION)))
        assert set(lanes.stats()) == {f"g1-s{shard}" for shard in range(store.shards)}
    finally:
        lanes.close()
    lanes.close()
    with pytest.raises(Unavailable):
        lanes.attach(new_lanes(store)[0])
    put(store, "a")  # commits wake nobody any more


def test_a_rebuild_under_writes_and_its_lane_end_with_what_the_store_holds(store: SqlStore) -> None:
    """The scan sees some later writes, and the lane applies them again."""
    put(store, *(f"i{number}" for number in range(40)))
    lanes = LaneSet(store, ManualClock(), threads=True)
    reports: list[tuple[int, int]] = []

    def disturb(done: int, total: int) -> None:
        reports.append((done, total))
        put(store, "i1", "late", seed=500 + len(reports))
        store.delete_items(["i2"])

    try:
        for shard in range(store.shards):
            head = store.head(shard)
            index = Index(dim=DIMENSION)
            lane = lanes.rebuild(1, shard, index, disturb)
            assert lane.applied == head
            assert len(index) == reports[-1][0]
            lanes.attach(lane)
        heads = {shard: store.head(shard) for shard in range(store.shards)}
        assert lanes.wait(heads, [1], deadline_s=30.0)
        assert_follow(store, lanes.of(1))
        assert all(0 < done <= total for done, total in reports)
    finally:
        lanes.close()


def test_what_a_rebuild_could_not_add_is_on_the_record_of_its_lane(store: SqlStore) -> None:
    put(store, *"abcdefgh")
    found = store.get_item("a")
    assert found is not None
    lanes = LaneSet(store, ManualClock(), threads=False)
    index = PickyIndex({found.item})
    lane = lanes.rebuild(1, found.shard, index)
    assert list(lane.failures) == [found.item]
    assert set(index.held) == set(stored(store, 1, found.shard)) - {found.item}
    lanes.close()


def test_two_generations_are_followed_apart(store: SqlStore) -> None:
    put(store, *"abcdefgh")
    store.create_generation("m", "filling", 0.0)
    lanes, made = attached(store, threads=True)
    target = new_lanes(store, generation=2)
    try:
        for lane in target:
            lanes.attach(lane)
        put(store, "a", seed=70, generations=(1, 2))
        item = int(store.items_of(["b"])[0])
        store.write_vectors(2, [(item, 1, vector(80))])
        heads = {shard: store.head(shard) for shard in range(store.shards)}
        assert lanes.wait(heads, [1, 2], deadline_s=30.0)
        assert_follow(store, made + target)
        assert sum(len(contents(lane)) for lane in made) == 8
        assert sum(len(contents(lane)) for lane in target) == 2
        assert lanes.applied(1) == lanes.applied(2) == heads
    finally:
        lanes.close()
