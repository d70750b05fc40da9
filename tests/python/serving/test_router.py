"""The native router through its binding: the exact answer, refusals, provenance, threads, Ctrl-C."""

from __future__ import annotations

import _thread
import functools
import operator
import threading
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from embedcore import ScoreCalibration, _native
from embedcore.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from embedcore.hashing import item_hash, share_of

OLD, NEW = 3, 5  # generation numbers
Vectors = NDArray[np.float32]
EF = {OLD: 500, NEW: 500}  # above the number of items: searches are exact


class World:
    """150 items in the old generation; in the new one two thirds of them and ten more."""

    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        self.old: dict[int, Vectors] = dict(enumerate(rng.normal(size=(150, 12)).astype(np.float32)))
        new = enumerate(rng.normal(size=(160, 20)).astype(np.float32))
        self.new: dict[int, Vectors] = {i: v for i, v in new if i % 3 or i >= 150}
        self.queries = {
            OLD: rng.normal(size=(25, 12)).astype(np.float32),
            NEW: rng.normal(size=(25, 20)).astype(np.float32),
        }
        line = np.linspace(0, 2, 40)
        self.calibration = ScoreCalibration.fit(line, 0.1 + 0.8 * line)
        self.old_index = index_of(self.old)
        self.new_index = index_of(self.new)
        self.indexes = {OLD: self.old_index, NEW: self.new_index}

    def table(self, version: int, weight: float, canary: float = 0.0) -> _native.RoutingTable:
        table = _native.RoutingTable(version)
        table.add_generation(OLD, [self.old_index])
        table.add_generation(NEW, [self.new_index])
        slot = table.add_consumer(
            OLD,
            target=NEW,
            weight=weight,
            ef_search=EF,
            calibration=self.calibration,
            canary_share=canary,
            canary_salt=8,
        )
        assert slot == 0
        return table

    def query(self, row: int) -> dict[int, Vectors]:
        return {number: queries[row] for number, queries in self.queries.items()}

    def expected(self, row: int, weight: float, k: int) -> list[tuple[int, float]]:
        """The protocol's rule over exact distances."""
        old = distances(self.old, self.queries[OLD][row])
        new = distances(self.new, self.queries[NEW][row])
        if weight in (0, 1):
            return nearest(new if weight else old, k)
        scores: dict[int, float] = {}
        for item in {i for i, _ in nearest(old, k)} | {i for i, _ in nearest(new, k)}:
            if item not in new:
                scores[item] = self.calibration(old[item])
            elif item not in old:
                scores[item] = new[item]
            else:
                scores[item] = (1 - weight) * self.calibration(old[item]) + weight * new[item]
        return nearest(scores, k)


def index_of(items: Mapping[int, Vectors]) -> _native.Index:
    dim = len(next(iter(items.values())))
    index = _native.Index(dim, 0, 16, 200, 0, 0)
    index.add(np.array(list(items), np.int64), np.stack(list(items.values())), 1, None)
    return index


def distances(items: Mapping[int, Vectors], query: Vectors) -> dict[int, float]:
    base = np.stack(list(items.values())).astype(np.float64)
    cosine = base @ query / (np.linalg.norm(base, axis=1) * np.linalg.norm(query.astype(np.float64)))
    return dict(zip(items, (1 - cosine).tolist(), strict=True))


def nearest(scores: Mapping[int, float], k: int) -> list[tuple[int, float]]:
    return sorted(scores.items(), key=lambda item: (item[1], item[0]))[:k]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def router_with(table: _native.RoutingTable) -> _native.Router:
    router = _native.Router()
    router.publish(table)
    return router


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.9, 1.0])
def test_search_is_the_exact_answer(world: World, weight: float) -> None:
    router = router_with(world.table(1, weight))
    for row in range(25):
        answer = router.search(0, world.query(row), 10)
        expected = world.expected(row, weight, 10)
        assert answer.ids.tolist() == [i for i, _ in expected]
        np.testing.assert_allclose(answer.distances, [d for _, d in expected], atol=1e-5)
    assert answer.weight == weight
    assert answer.generations == {0.0: (OLD,), 1.0: (NEW,)}.get(weight, (OLD, NEW))
    assert answer.table_version == router.version() == 1
    assert answer.shards_asked == answer.shards_answered == len(answer.generations)
    assert not answer.partial
    assert answer.arm == 0
    assert answer.missing_generation == -1


def test_weight_zero_and_one_are_the_index_bit_by_bit(world: World) -> None:
    router = router_with(world.table(1, 0.5))
    for weight, number in ((0.0, OLD), (1.0, NEW)):
        ids = np.empty((25, 15), np.int64)
        found = np.empty((25, 15), np.float32)
        world.indexes[number].search(world.queries[number], 15, 500, None, 1, ids, found, None)
        for row, query in enumerate(world.queries[number]):
            answer = router.search(0, {number: query}, 15, weight=weight)
            np.testing.assert_array_equal(answer.ids, ids[row])
            np.testing.assert_array_equal(answer.distances, found[row])


@pytest.mark.parametrize("threads", [1, 2])
def test_batch_is_its_queries(world: World, threads: int) -> None:
    router = router_with(world.table(1, 0.4))
    for weight in (None, 0.0, 0.7, 1.0):
        ids, found = router.search_batch(0, world.queries, 200, weight=weight, threads=threads)
        assert ids.shape == found.shape == (25, 200)
        for row in range(25):
            answer = router.search(0, world.query(row), 200, weight=weight)
            n = len(answer.ids)
            np.testing.assert_array_equal(ids[row, :n], answer.ids)
            np.testing.assert_array_equal(found[row, :n], answer.distances)
            assert (ids[row, n:] == -1).all()
            assert np.isinf(found[row, n:]).all()


def test_answers_outlive_everything_and_cannot_be_written(world: World) -> None:
    router = router_with(world.table(1, 0.0))
    ids = router.search(0, world.query(0), 5).ids
    del router
    assert ids.tolist() == [i for i, _ in world.expected(0, 0.0, 5)]
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1


def test_filter(world: World) -> None:
    router = router_with(world.table(1, 0.0))
    allowed = np.array([3, 4, 90, 149, 5000], np.int64)
    answer = router.search(0, world.query(0), 10, filter_ids=allowed)
    scores = {i: d for i, d in distances(world.old, world.queries[OLD][0]).items() if i in allowed}
    assert answer.ids.tolist() == [i for i, _ in nearest(scores, 10)]
    assert len(router.search(0, world.query(0), 10, filter_ids=np.empty(0, np.int64)).ids) == 0
    with pytest.raises(InvalidArgument, match="ascend"):
        router.search(0, world.query(0), 10, filter_ids=allowed[::-1])


def test_canary_is_the_documented_split(world: World) -> None:
    router = router_with(world.table(1, 0.0, canary=0.3))
    arms = set()
    for i in range(100):
        key = f"user{i}"
        user_hash = item_hash(key)
        expected = int(share_of(key, 8) < 0.3)
        plan = router.plan(0, user_hash)
        answer = router.search(0, world.query(0), 3, user_hash=user_hash)
        assert plan.arm == answer.arm == expected
        assert plan.generations == answer.generations == ((NEW,) if expected else (OLD,))
        assert plan.weight == answer.weight == float(expected)
        arms.add(expected)
    assert arms == {0, 1}
    assert router.search(0, world.query(0), 3).arm == 0


def test_missing_vector_is_named_and_searched_again(world: World) -> None:
    router = router_with(world.table(1, 0.0))
    plan = router.plan(0)
    assert plan.generations == (OLD,)
    router.publish(world.table(2, 0.5))  # between the encoding and the search
    vectors = {n: world.queries[n][0] for n in plan.generations}
    answer = router.search(0, vectors, 10)
    assert answer.missing_generation == NEW
    assert answer.table_version == 2
    assert len(answer.ids) == 0
    vectors[answer.missing_generation] = world.queries[NEW][0]
    answer = router.search(0, vectors, 10)
    assert answer.missing_generation == -1
    assert answer.ids.tolist() == [i for i, _ in world.expected(0, 0.5, 10)]
    assert router.counters(0).queries == 1


def test_bad_requests(world: World) -> None:
    router = _native.Router()
    good = world.query(0)
    with pytest.raises(Unavailable, match="no routing table"):
        router.search(0, good, 5)
    router.publish(world.table(1, 0.0))
    with pytest.raises(NotFound, match="slot 7"):
        router.search(7, good, 5)
    with pytest.raises(InvalidArgument, match="k must be"):
        router.search(0, good, 0)
    with pytest.raises(InvalidArgument, match=r"has 20 dimensions, the index has 12"):
        router.search(0, {OLD: good[NEW]}, 5)
    with pytest.raises(InvalidArgument, match="not finite"):
        router.search(0, {OLD: np.full(12, np.nan, np.float32)}, 5)
    with pytest.raises(InvalidArgument, match="zero vector"):
        router.search(0, {OLD: np.zeros(12, np.float32)}, 5)
    with pytest.raises(InvalidArgument, match=r"shape \(dim,\)"):
        router.search(0, {OLD: good[OLD][None]}, 5)
    for weight in (-1.0, 2.0, float("nan")):
        with pytest.raises(InvalidArgument, match="outside"):
            router.search(0, good, 5, weight=weight)
    with pytest.raises(DeadlineExceeded, match="0 of 1 shards"):
        router.search(0, good, 5, deadline_s=-1.0)
    assert len(router.search(0, good, 5, deadline_s=60.0).ids) == 5
    counters = router.counters(0)
    assert (counters.queries, counters.errors) == (2, 1)


def test_refused_tables_change_nothing(world: World) -> None:
    router = router_with(world.table(5, 0.0))
    with pytest.raises(FailedPrecondition, match="version 5 is not above"):
        router.publish(world.table(5, 1.0))
    with pytest.raises(InvalidArgument, match=r"weight 1\.5"):
        router.publish(world.table(6, 1.5))
    table = _native.RoutingTable(7)
    table.add_generation(OLD, [world.old_index])
    table.add_consumer(OLD, ef_search=EF, weight=0.5)
    with pytest.raises(InvalidArgument, match="no target"):
        router.publish(table)
    assert router.version() == 5
    assert router.search(0, world.query(0), 5).weight == 0.0


def test_closed_slot(world: World) -> None:
    table = _native.RoutingTable(1)
    table.add_generation(OLD, [world.old_index])
    assert table.add_closed_slot() == 0
    assert table.add_consumer(OLD, target=0, ef_search=EF) == 1
    router = router_with(table)
    with pytest.raises(NotFound, match="slot 0 is not open"):
        router.search(0, world.query(0), 5)
    assert len(router.search(1, world.query(0), 5).ids) == 5


def test_counters(world: World) -> None:
    router = router_with(world.table(1, 0.0))
    for row in range(7):
        router.search(0, world.query(row), 5)
    router.search(0, world.query(0), 5, weight=1.0)  # a shadow query is not traffic
    router.publish(world.table(2, 0.0))
    router.search(0, world.query(0), 5, filter_ids=np.empty(0, np.int64))
    counters = router.counters(0)
    assert (counters.queries, counters.empty, counters.partial, counters.errors) == (8, 1, 0, 0)
    assert counters.latency_counts.sum() == 8
    ends = _native.latency_bucket_ends()
    assert len(ends) == len(counters.latency_counts)
    assert (np.diff(ends[:-1]) > 0).all()
    assert np.isinf(ends[-1])
    assert 0 < counters.latency_sum_s <= (counters.latency_counts * np.minimum(ends, 3600)).sum()


def test_publish_beside_searches(world: World) -> None:
    router = router_with(world.table(1, 0.0))
    expected = {w: [i for i, _ in world.expected(0, w, 10)] for w in (0.0, 0.5, 1.0)}
    wrong: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            answer = router.search(0, world.query(0), 10)
            if answer.ids.tolist() != expected[answer.weight]:
                wrong.append(f"table {answer.table_version}")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for version in range(2, 60):
        router.publish(world.table(version, (version % 3) / 2))
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert router.version() == 59


def test_batch_answers_ctrl_c(world: World) -> None:
    router = router_with(world.table(1, 0.5))
    batch = functools.partial(router.search_batch, 0, world.queries, 10)
    after: list[str] = []
    # One C loop over C functions: Python itself looks for signals only at the end of it, so that nothing
    # but the batch's own polling keeps the last step from being taken.
    steps: list[Callable[[], object]] = [
        _thread.interrupt_main,
        batch,
        functools.partial(after.append, "the batch ran to its end"),
    ]
    with pytest.raises(KeyboardInterrupt):
        list(map(operator.call, steps))
    assert after == []
