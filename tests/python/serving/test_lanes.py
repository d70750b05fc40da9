"""Lanes together, over a real store and real indexes: threads, waiting, attaching, rebuilds."""

from __future__ import annotations

import threading

import pytest

from embedcore.clock import ManualClock
from embedcore.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from embedcore.index import Index
from embedcore.serving.lanes import Lane, LaneSet
from embedcore.store import SqlStore
from embedcore.store.interface import LaneBatch
from serving.lanes_kit import (
    DIMENSION,
    PickyIndex,
    assert_follow,
    attached,
    contents,
    new_lanes,
    put,
    stored,
    vector,
)


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
        batch = read_lane(generation, shard, after, limit)
        if failing.is_set():  # asked after reading: the lane's first read may still be under way
            failed.set()
            raise Unavailable("disk is away")
        return batch

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
