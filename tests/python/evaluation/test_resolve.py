"""Resolving golden sets: what is left out is counted, and the long-tail rule is the one stated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcore.evaluation.golden import GoldenQuery, GoldenSet
from embedcore.evaluation.ragged import Ragged
from embedcore.evaluation.resolve import Resolver, resolve

DAY = 86_400.0


def golden(*relevant: dict[str, float], exclude: tuple[str, ...] = ()) -> GoldenSet:
    queries = tuple(
        GoldenQuery(id=f"q{i}", text=f"t{i}", relevant=labels, exclude=exclude)
        for i, labels in enumerate(relevant)
    )
    return GoldenSet(name="set", consumer="search", queries=queries)


def test_deleted_unknown_and_ungraded_labels_are_dropped_and_counted(store: Any) -> None:
    a, b = store.add("a", "x"), store.add("b", "x")
    store.add("gone", "x", deleted=True)
    labels = golden(
        {"a": 1.0, "b": 2.0, "gone": 1.0},
        {"gone": 1.0},
        {"b": 1.0, "a": 0.0},
        {"nowhere": 1.0, "gone": 1.0},
        exclude=("gone", "nowhere", "a"),
    )
    resolved = resolve(labels, store)
    assert resolved.rows.tolist() == [0, 2]
    assert (resolved.asked, resolved.left_out) == (4, 2)
    assert sorted(resolved.relevant.row(0).tolist()) == sorted([a, b])
    assert resolved.relevant.row(1).tolist() == [b]
    assert resolved.exclude.row(0).tolist() == [a], "an item that is not there needs no excluding"
    assert resolved.texts == ["t0", "t2"]
    assert resolved.depth == 1


def test_a_namespace_is_resolved_in_itself(store: Any) -> None:
    store.add("a", "x")
    inside = store.add("a", "x", namespace="ns")
    labels = golden({"a": 1.0}).model_copy(update={"namespace": "ns"})
    assert resolve(labels, store).relevant.items.tolist() == [inside]


@pytest.mark.parametrize("count", [5, 10, 37, 200])
def test_long_tail_is_the_oldest_decile(store: Any, count: int) -> None:
    ages = np.random.default_rng(count).permutation(count)
    for number, age in enumerate(ages):
        store.add(f"i{number}", "x", created_at=1e9 - DAY * float(age))
    oldest = {f"i{n}" for n in np.argsort(-ages)[: int(np.ceil(0.1 * count))]}
    labels = [{f"i{n}": 1.0} for n in range(count)] + [{"i0": 1.0, f"i{n}": 1.0} for n in range(1, count)]
    resolved = resolve(golden(*labels), store)
    expected = [set(label) <= oldest for label in labels]
    assert resolved.long_tail.tolist() == expected
    assert any(expected)
    assert not all(expected)


def test_items_of_one_age_have_no_long_tail(store: Any) -> None:
    for number in range(50):
        store.add(f"i{number}", "x", created_at=1e9)
    assert not resolve(golden(*({f"i{n}": 1.0} for n in range(50))), store).long_tail.any()


def test_restrict_is_the_task_on_a_smaller_corpus(store: Any) -> None:
    numbers = [store.add(f"i{n}", "x") for n in range(4)]
    resolved = resolve(golden({"i0": 1.0, "i1": 1.0}, {"i2": 1.0}, {"i1": 1.0, "i3": 1.0}), store)
    small = resolved.restrict(np.array([numbers[1], numbers[3]]))
    assert small.rows.tolist() == [0, 2]
    assert small.relevant.row(0).tolist() == [numbers[1]]
    assert sorted(small.relevant.row(1).tolist()) == sorted([numbers[1], numbers[3]])
    assert (small.asked, small.left_out) == (3, 1)


def test_a_restricted_query_keeps_its_bucket(store: Any) -> None:
    numbers = [store.add(f"i{n}", "x", created_at=1e9 - DAY * n) for n in range(20)]
    resolved = resolve(golden({"i0": 1.0}, {"i19": 1.0}, {"i5": 1.0}, {"i18": 1.0}), store)
    assert resolved.long_tail.tolist() == [False, True, False, True]
    small = resolved.restrict(np.array([numbers[5], numbers[19]]))
    assert small.long_tail.tolist() == [True, False]
    assert resolved.take(np.array([1, 2])).long_tail.tolist() == [True, False]


def test_a_subset_of_rows_resolves_alone(store: Any) -> None:
    for number in range(6):
        store.add(f"i{number}", "x")
    labels = golden(*({f"i{n}": 1.0} for n in range(6)))
    whole = Resolver(store).resolve(labels)
    some = Resolver(store).resolve(labels, np.array([1, 4]))
    assert some.rows.tolist() == [1, 4]
    assert some.asked == 2
    assert np.array_equal(some.relevant.items, whole.take(np.array([1, 4])).relevant.items)


def test_a_resolver_sees_deletes_and_new_items(store: Any) -> None:
    for number in range(20):
        store.add(f"i{number}", "x", created_at=1e9 - DAY * number)
    labels = golden({"i0": 1.0}, {"i19": 1.0})
    resolver = Resolver(store)
    assert resolver.resolve(labels).rows.tolist() == [0, 1]
    store.delete("i0")
    assert resolver.resolve(labels).rows.tolist() == [1]
    assert resolver.resolve(labels).long_tail.tolist() == [True]
    for number in range(20, 60):
        store.add(f"i{number}", "x", created_at=1e9 - DAY * number)
    assert resolver.resolve(labels).long_tail.tolist() == [False], "older items came: the decile moved"


rows_of_items = st.lists(st.lists(st.integers(0, 12), unique=True, max_size=6), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows=rows_of_items, seed=st.integers(0, 1000), scale=st.sampled_from([1, 1 << 40]))
def test_ragged_against_sets(rows: list[list[int]], seed: int, scale: int) -> None:
    rng = np.random.default_rng(seed)
    ragged = Ragged.of([[item * scale for item in row] for row in rows])
    assert [ragged.row(i).tolist() for i in range(len(rows))] == [[i * scale for i in row] for row in rows]
    ids = rng.integers(-1, 14, size=(len(rows), 5))
    expected = [[int(i) in row for i in line] for row, line in zip(rows, ids, strict=True)]
    assert ragged.holds(np.where(ids < 0, -1, ids * scale)).tolist() == expected
    order = rng.permutation(len(rows))[: rng.integers(0, len(rows) + 1)]
    taken = ragged.take(order)
    assert [taken.row(i).tolist() for i in range(len(order))] == [ragged.row(i).tolist() for i in order]
    mask = rng.random(len(ragged.items)) < 0.5
    kept = ragged.keep(mask)
    position = 0
    for i, row in enumerate(rows):
        expected_row = [item * scale for j, item in enumerate(row) if mask[position + j]]
        assert kept.row(i).tolist() == expected_row
        position += len(row)
