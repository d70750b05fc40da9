"""Everything at once, with the books right at the end. embedcore's alone: hnswlib does not promise this."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from embedcore.compat import hnswlib
from embedcore.compat._labels import Labels

from .conftest import made, vectors


def run_all(works: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_adds_at_once_get_labels_of_their_own() -> None:
    data = vectors(400, 6, seed=100)
    index = made(hnswlib, "l2", 6, 400, M=4, ef_construction=20)
    run_all([lambda part=part: [index.add_items(row) for row in data[part::8]] for part in range(8)])  # type: ignore[misc]
    assert index.get_ids_list() == list(range(400))
    stored = {tuple(row) for row in index.get_items(range(400)).tolist()}
    assert stored == {tuple(row) for row in data.tolist()}


def test_room_is_given_once() -> None:
    data = vectors(400, 6, seed=101)
    index = made(hnswlib, "l2", 6, 100, M=4, ef_construction=20)
    refused: list[int] = []

    def add(part: int) -> None:
        for label in range(part, 400, 8):
            try:
                index.add_items(data[label], label)
            except RuntimeError:
                refused.append(label)

    run_all([lambda part=part: add(part) for part in range(8)])  # type: ignore[misc]
    assert index.element_count == 100 == 400 - len(refused)
    assert index.get_ids_list() == sorted(set(range(400)) - set(refused))


def test_everything_at_once(tmp_path: Path) -> None:
    data = vectors(600, 8, seed=102)
    index = made(hnswlib, "cosine", 8, 700, M=8, ef_construction=30, allow_replace_deleted=True)
    index.add_items(data[:300])
    rounds = 60

    known = "not found|already deleted|not deleted|Can't use addPoint|exceeds"
    unknown: list[str] = []

    def churn(seed: int) -> None:
        rng = np.random.default_rng([103, seed])
        for _ in range(rounds):
            label = int(rng.integers(600))
            calls: list[Callable[[], None]] = [
                lambda label=label: index.mark_deleted(label),  # type: ignore[misc]
                lambda label=label: index.unmark_deleted(label),  # type: ignore[misc]
                lambda label=label: index.add_items(data[label], label),  # type: ignore[misc]
                lambda label=label: index.add_items(data[label], label, replace_deleted=True),  # type: ignore[misc]
            ]
            for call in rng.permutation(4):
                try:
                    calls[call]()
                except RuntimeError as error:
                    if not re.search(known, str(error)):
                        unknown.append(str(error))

    def search() -> None:
        for row in range(rounds * 3):
            labels, found = index.knn_query(data[row : row + 2], k=3)
            assert (labels < 600).all()
            assert (np.diff(found, axis=1) >= 0).all()

    def save() -> None:
        for turn in range(5):
            path = tmp_path / f"{turn}"
            index.save_index(path)
            loaded = hnswlib.Index("cosine", 8)
            loaded.load_index(path)
            assert len(loaded.get_ids_list()) == loaded.element_count <= 600

    run_all([*(lambda seed=seed: churn(seed) for seed in range(4)), search, search, save])  # type: ignore[misc]
    assert unknown == []
    ids = index.get_ids_list()
    assert len(ids) == index.element_count
    for label in ids:
        with suppress(RuntimeError):  # where it is not deleted
            index.unmark_deleted(label)
    normal = data / np.linalg.norm(data, axis=1, keepdims=True)
    np.testing.assert_allclose(index.get_items(ids), normal[ids], atol=1e-6)
    assert index.element_count == len(ids)


def test_a_search_does_not_wait_for_writers() -> None:
    data = vectors(50, 6, seed=104)
    index = made(hnswlib, "l2", 6, 60)
    index.add_items(data)
    labels: Labels = index._made().labels
    with labels.alone(), labels._changed:  # as during a save, which holds off all writers
        found: list[int] = []
        run_all([lambda: found.extend(index.knn_query(data, k=1)[0].ravel().tolist())])
        assert found == list(range(50))


def test_alone_waits_for_writers_and_holds_off_new_ones() -> None:
    index = made(hnswlib, "l2", 6, 60)
    labels: Labels = index._made().labels
    events: list[str] = []
    started = threading.Event()

    def alone() -> None:
        started.set()
        with labels.alone():
            events.append("alone")

    def write() -> None:
        with labels.writing(2):
            events.append("second writer")

    waiting = [threading.Thread(target=alone), threading.Thread(target=write)]
    with labels.writing(1):
        waiting[0].start()
        started.wait(10)
        while not labels._alone:
            pass
        waiting[1].start()
        waiting[1].join(0.05)
        events.append("first writer")
    for thread in waiting:
        thread.join(10)
    assert events == ["first writer", "alone", "second writer"]


def test_an_interrupted_add_is_booked_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    data = vectors(10, 4, seed=105)
    index = made(hnswlib, "l2", 4, 10, allow_replace_deleted=True)
    index.add_items(data[:6])
    for label in (0, 1, 2):
        index.mark_deleted(label)
    graph = index._made()
    add = type(graph.index).add

    def half(self: object, ids: np.ndarray, rows: np.ndarray, threads: int = 0) -> None:
        add(self, ids[:2], rows[:2], threads)  # type: ignore[arg-type]
        raise MemoryError

    monkeypatch.setattr(type(graph.index), "add", half)
    with pytest.raises(MemoryError):  # 1 revived and 50 in the place of 0; 51 and 52 did not come
        index.add_items(data[6:10], [1, 50, 51, 52], replace_deleted=True)
    monkeypatch.undo()
    assert index.get_ids_list() == [1, 2, 3, 4, 5, 50]
    assert index.element_count == 6
    index.unmark_deleted(2)
    index.add_items(data[:4], [60, 61, 62, 63])
    assert index.element_count == 10


def test_exact_searches_see_whole_states() -> None:
    """A label is moved to and fro; a search that sees it in neither or both places saw a half-done call."""
    index = hnswlib.BFIndex("l2", 2)
    index.init_index(400)
    index.add_items(np.full((300, 2), 100.0), np.arange(300) + 10)
    index.add_items([0.0, 0.0], 1)
    done = threading.Event()

    def move() -> None:
        for turn in range(700):  # beyond the number of dead rows that are copied away
            index.add_items([[float(turn % 2), 0.0], [100.0, 100.0]], [1, 10 + turn % 300])
        done.set()

    def search() -> None:
        while not done.is_set():
            labels, _ = index.knn_query([0.5, 0.0], k=301)
            assert labels[0, 0] == 1
            assert len(set(labels[0].tolist())) == 301

    run_all([move, search, search])
