"""Marking, unmarking, replacing and resizing: the same calls on both modules."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from embedcore.compat import hnswlib as ours

from .conftest import distances, made, recall, vectors


def test_marked_items_are_hidden_and_still_count(module: ModuleType) -> None:
    data = vectors(50, 6, seed=40)
    index = made(module, "l2", 6, 50)
    index.set_ef(50)
    index.add_items(data)
    for label in range(0, 50, 2):
        assert index.mark_deleted(np.uint64(label)) is None
    assert (index.element_count, index.get_current_count(), index.max_elements) == (50, 50, 50)
    assert sorted(index.get_ids_list()) == list(range(50))
    labels, _ = index.knn_query(data, k=25)
    assert set(labels.ravel().tolist()) == set(range(1, 50, 2))
    with pytest.raises(RuntimeError, match="Cannot return the results"):
        index.knn_query(data[0], k=26)
    with pytest.raises(RuntimeError, match="Label not found"):
        index.get_items([1, 2])
    with pytest.raises(RuntimeError, match="already deleted"):
        index.mark_deleted(2)
    with pytest.raises(RuntimeError, match="exceeds the specified limit"):
        index.add_items(data[0], 99)  # they take up room, too
    index.unmark_deleted(2)
    with pytest.raises(RuntimeError, match="is not deleted"):
        index.unmark_deleted(2)
    assert index.knn_query(data[2])[0][0, 0] == 2
    np.testing.assert_array_equal(index.get_items([2]), data[2:3])
    assert index.element_count == 50


@pytest.mark.parametrize("space", ["l2", "ip", "cosine"])
def test_unmarking_restores_everything(module: ModuleType, space: str) -> None:
    data, queries = vectors(1500, 12, seed=41), vectors(80, 12, seed=42)
    index = made(module, space, 12, 1500)
    index.set_ef(100)
    index.add_items(data)
    items = index.get_items(range(1500))
    for label in range(1000):
        index.mark_deleted(label)
    exact = distances(space, queries, data)
    found, _ = index.knn_query(queries, k=10)
    assert (found >= 1000).all()
    assert recall(found, exact[:, 1000:], np.arange(1000, 1500)) > 0.95
    for label in range(1000):
        index.unmark_deleted(label)
    np.testing.assert_array_equal(index.get_items(range(1500)), items)
    assert recall(index.knn_query(queries, k=10)[0], exact) > 0.95


def test_adding_a_marked_label_undeletes_it(module: ModuleType) -> None:
    data = vectors(5, 6, seed=43)
    index = made(module, "l2", 6, 4)
    index.add_items(data[:4])
    index.mark_deleted(1)
    index.add_items(data[4], 1)
    assert index.element_count == 4
    np.testing.assert_array_equal(index.get_items([1]), data[4:5])
    with pytest.raises(RuntimeError, match="is not deleted"):
        index.unmark_deleted(1)


def test_replacing_takes_the_places_of_marked_items(module: ModuleType) -> None:
    data = vectors(30, 6, seed=44)
    index = made(module, "l2", 6, 20, allow_replace_deleted=True)
    index.set_ef(30)
    index.add_items(data[:20])
    for label in range(5):
        index.mark_deleted(label)
    with pytest.raises(RuntimeError, match="exceeds the specified limit"):
        index.add_items(data[20], 20)
    with pytest.raises(RuntimeError, match="Can't use addPoint to update deleted elements"):
        index.add_items(data[20], 0)
    index.add_items(data[20:23], [20, 21, 22], replace_deleted=True)
    ids = index.get_ids_list()
    assert len(ids) == index.element_count == 20
    gone = set(range(5)) - set(ids)
    assert len(gone) == 3
    assert set(ids) == set(range(23)) - gone
    for label in gone:
        with pytest.raises(RuntimeError, match="Label not found"):
            index.unmark_deleted(label)
    index.add_items(data[23:25], [23, 24], replace_deleted=True)
    with pytest.raises(RuntimeError, match="exceeds the specified limit"):
        index.add_items(data[25], 25, replace_deleted=True)
    assert sorted(index.get_ids_list()) == list(range(5, 25))
    assert (index.knn_query(data[5:25], k=1)[0].ravel() == np.arange(5, 25)).all()


def test_without_marked_items_replacing_is_adding(module: ModuleType) -> None:
    data = vectors(6, 6, seed=45)
    index = made(module, "l2", 6, 6, allow_replace_deleted=True)
    index.add_items(data[:3], replace_deleted=True)
    index.mark_deleted(1)
    index.add_items(data[3:6], [7, 8, 9], replace_deleted=True)  # one takes a place, two take room
    assert sorted(index.get_ids_list()) == [0, 2, 7, 8, 9]
    assert index.element_count == 5


def test_a_marked_label_takes_its_own_place() -> None:
    data = vectors(6, 6, seed=46)
    index = made(ours, "l2", 6, 4, allow_replace_deleted=True)
    index.add_items(data[:4])
    index.mark_deleted(3)
    index.mark_deleted(0)
    index.add_items(data[4:6], [0, 8], replace_deleted=True)
    assert index.get_ids_list() == [0, 1, 2, 8]
    np.testing.assert_array_equal(index.get_items([0, 8]), data[4:6])


def test_a_live_label_leaves_the_marked_ones_alone() -> None:
    data = vectors(6, 6, seed=47)
    index = made(ours, "l2", 6, 4, allow_replace_deleted=True)
    index.add_items(data[:4])
    index.mark_deleted(3)
    index.add_items(data[4], 0, replace_deleted=True)
    assert index.get_ids_list() == [0, 1, 2, 3]
    index.unmark_deleted(3)
    np.testing.assert_array_equal(index.get_items([0, 3]), data[[4, 3]])


def test_a_refused_replacement_takes_no_place() -> None:
    data = vectors(6, 6, seed=48)
    index = made(ours, "l2", 6, 4, allow_replace_deleted=True)
    index.add_items(data[:4])
    index.mark_deleted(3)
    for rows, labels in ((data[4:6], [7, 8]), ([[np.nan] * 6], [7])):
        with pytest.raises(RuntimeError):
            index.add_items(rows, labels, replace_deleted=True)
        assert index.get_ids_list() == [0, 1, 2, 3]
        assert index.element_count == 4
    index.unmark_deleted(3)
    np.testing.assert_array_equal(index.get_items([3]), data[3:4])


def test_resizing(module: ModuleType) -> None:
    data = vectors(12, 6, seed=49)
    index = made(module, "l2", 6, 8)
    index.add_items(data[:8])
    index.mark_deleted(0)
    with pytest.raises(RuntimeError, match="Cannot resize, max element is less than the current number"):
        index.resize_index(7)
    index.resize_index(12)
    assert (index.max_elements, index.get_max_elements()) == (12, 12)
    index.add_items(data[8:])
    assert index.element_count == 12
    index.set_ef(12)
    assert (index.knn_query(data[1:], k=1)[0].ravel() == np.arange(1, 12)).all()


def test_replaced_items_do_not_pile_up() -> None:
    rng = np.random.default_rng(50)
    index = made(ours, "l2", 4, 300, M=4, ef_construction=10)
    index.set_ef(300)
    for _ in range(20):
        data = rng.normal(size=(300, 4)).astype(np.float32)
        index.add_items(data, np.arange(300))
        held = index._made().index
        assert held.tombstones < 1024 + 300
        assert held.check() == []
    assert (index.knn_query(data, k=1)[0].ravel() == np.arange(300)).all()
