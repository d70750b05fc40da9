"""Metrics against a plain Python computation, and planted bugs that the same tests catch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcore.evaluation.metrics import (
    PerQuery,
    depth_for,
    found_share,
    precision_at_1,
    recall_at_k,
    top_answers,
)
from embedcore.evaluation.ragged import Ragged
from embedcore.evaluation.thresholds import choose_threshold, halves


def oracle_recall(ids: list[int], relevant: set[int], exclude: set[int], k: int) -> float:
    kept = [item for item in ids if item >= 0 and item not in exclude][:k]
    return len(set(kept) & relevant) / min(len(relevant), k)


def oracle_top(ids: list[int], distances: list[float], exclude: set[int]) -> tuple[int, float]:
    for item, distance in zip(ids, distances, strict=True):
        if item >= 0 and item not in exclude:
            return item, distance
    return -1, math.inf


Task = tuple[np.ndarray, np.ndarray, list[set[int]], list[set[int]]]


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries, depth = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    universe = draw(st.integers(12, 30))
    ids = np.stack([rng.permutation(universe)[:depth] for _ in range(queries)]).astype(np.int64)
    for row in ids:  # short lists end in -1
        row[depth - rng.integers(0, depth + 1) :] = -1
    distances = np.where(ids >= 0, np.sort(rng.random(ids.shape), axis=1), np.inf).astype(np.float32)
    relevant, exclude = [], []
    for _ in range(queries):
        mixed = rng.permutation(universe)
        count = int(rng.integers(1, 7))
        relevant.append({int(i) for i in mixed[:count]})
        exclude.append({int(i) for i in mixed[count : count + int(rng.integers(0, 4))]})
    return ids, distances, relevant, exclude


def ragged(sets: list[set[int]]) -> Ragged:
    return Ragged.of([sorted(one) for one in sets])


@settings(max_examples=150, deadline=None)
@given(task=tasks(), k=st.integers(1, 8))
def test_recall_against_plain_python(task: Task, k: int) -> None:
    ids, _, relevant, exclude = task
    values = recall_at_k(ids, ragged(relevant), ragged(exclude), k)
    expected = [oracle_recall(r.tolist(), a, b, k) for r, a, b in zip(ids, relevant, exclude, strict=True)]
    assert np.abs(values.num / values.den - expected).max() < 1e-9
    assert abs(values.value - sum(expected) / len(expected)) < 1e-9


@settings(max_examples=100, deadline=None)
@given(task=tasks(), threshold=st.floats(0, 1, width=32))
def test_precision_against_plain_python(task: Task, threshold: float) -> None:
    ids, distances, relevant, exclude = task
    top = top_answers(ids, distances, ragged(relevant), ragged(exclude))
    accepted = correct = 0
    for row in range(len(ids)):
        item, distance = oracle_top(ids[row].tolist(), distances[row].tolist(), exclude[row])
        assert (top.item[row], top.distance[row]) == (item, distance)
        if item >= 0 and distance <= threshold:
            accepted += 1
            correct += item in relevant[row]
    values = precision_at_1(top, threshold)
    assert values.den.sum() == accepted
    assert values.num.sum() == correct
    assert found_share(top, threshold) == pytest.approx(correct / len(ids), abs=1e-12)
    assert math.isnan(values.value) if accepted == 0 else abs(values.value - correct / accepted) < 1e-9


def test_excluded_items_take_no_place_and_a_metric_that_ignores_them_is_caught() -> None:
    ids = np.array([[9, 1, 2, 3]])
    relevant, exclude = Ragged.of([[2]]), Ragged.of([[9]])
    assert depth_for(2, exclude) == 3
    assert recall_at_k(ids, relevant, exclude, 2).value == 1.0

    def planted(ids: np.ndarray, relevant: Ragged, exclude: Ragged, k: int) -> PerQuery:
        return recall_at_k(ids, relevant, Ragged.of([()] * len(ids)), k)

    assert planted(ids, relevant, exclude, 2).value != oracle_recall([9, 1, 2, 3], {2}, {9}, 2)


def test_a_repeated_result_is_found_once() -> None:
    assert recall_at_k(np.array([[4, 4, 4, 4]]), Ragged.of([[4, 5]]), Ragged.of([()]), 4).value == 0.5


def test_recall_is_capped_by_k_and_empty_lists_find_nothing() -> None:
    many, none = Ragged.of([list(range(20))]), Ragged.of([()])
    assert recall_at_k(np.arange(5)[None, :], many, none, 5).value == 1.0
    assert recall_at_k(np.full((1, 5), -1), many, none, 5).value == 0.0
    assert recall_at_k(np.zeros((1, 0), np.int64), many, none, 5).value == 0.0
    top = top_answers(np.zeros((1, 0), np.int64), np.zeros((1, 0), np.float32), many, none)
    assert top.item.tolist() == [-1]
    assert not top.accepted(math.inf).any(), "nothing cannot be accepted, whatever the threshold"


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="rows of ids"):
        recall_at_k(np.zeros((2, 3), np.int64), Ragged.of([[1]]), Ragged.of([()]), 3)
    with pytest.raises(ValueError, match="k must be"):
        recall_at_k(np.zeros((1, 3), np.int64), Ragged.of([[1]]), Ragged.of([()]), 0)
    with pytest.raises(ValueError, match="without relevant"):
        recall_at_k(np.zeros((1, 3), np.int64), Ragged.of([()]), Ragged.of([()]), 3)
    with pytest.raises(ValueError, match="two arrays"):
        PerQuery(np.zeros(2), np.zeros(3))


@settings(max_examples=150, deadline=None)
@given(task=tasks(), share=st.floats(0.05, 1.0))
def test_the_threshold_is_the_strictest_that_finds_the_share(task: Task, share: float) -> None:
    ids, distances, relevant, exclude = task
    top = top_answers(ids, distances, ragged(relevant), ragged(exclude))
    chosen = choose_threshold(top, share)
    candidates = [float(d) for d in top.distance if np.isfinite(d)]
    enough = [d for d in candidates if found_share(top, d) >= share - 1e-12]
    assert chosen.reached == bool(enough)
    assert chosen.distance == (min(enough) if enough else math.inf)
    assert chosen.found_share == pytest.approx(found_share(top, chosen.distance))


def test_ten_percent_steps_are_not_lost_to_rounding() -> None:
    top = top_answers(
        np.arange(10)[:, None],
        np.linspace(0.1, 1.0, 10, dtype=np.float32)[:, None],
        Ragged.of([[n] for n in range(10)]),
        Ragged.of([()] * 10),
    )
    for tenths in range(1, 11):
        assert choose_threshold(top, tenths * 0.1).distance == pytest.approx(tenths / 10)


def test_without_queries_everything_is_accepted_and_said_so() -> None:
    empty = top_answers(
        np.zeros((0, 1), np.int64), np.zeros((0, 1), np.float32), Ragged.of([]), Ragged.of([])
    )
    chosen = choose_threshold(empty, 0.9)
    assert (chosen.distance, chosen.reached, chosen.queries) == (math.inf, False, 0)
    assert math.isnan(found_share(empty, 1.0))


def test_halves_are_by_position_in_the_golden_set() -> None:
    even, odd = halves(np.array([0, 1, 4, 7]))
    assert even.tolist() == [True, False, True, False]
    assert odd.tolist() == [False, True, False, True]
