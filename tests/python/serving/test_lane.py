"""One lane over a real store: it steps to the head, and what its index refuses is on record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embedcore.errors import ResourceExhausted, Unavailable
from embedcore.serving.lanes import Lane
from embedcore.serving.refusals import RefusalRecord
from embedcore.store import SqlStore
from embedcore.store.interface import ItemWrite
from serving.lanes_kit import DIMENSION, PickyIndex, assert_follow, contents, new_lanes, put, stored


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
