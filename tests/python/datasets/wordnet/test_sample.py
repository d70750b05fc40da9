"""Subsets: exact in size, repeatable, and with relations enough whatever their size."""

from __future__ import annotations

import numpy as np
import pytest

from embedcore.datasets.wordnet.sample import RELATED_WANTED, sample_rows

ROWS = 6_000
# Synsets in a ring, each related to its neighbours, and a last third without relations.
RING = [
    [(row - 1) % (ROWS * 2 // 3), (row + 1) % (ROWS * 2 // 3)] if row < ROWS * 2 // 3 else []
    for row in range(ROWS)
]


def with_relation(rows: list[int]) -> int:
    inside = set(rows)
    return sum(any(other in inside for other in RING[row]) for row in rows)


@pytest.mark.parametrize("items", [1, 2, 3, 10, 101, 1_000, 5_999, 6_000])
def test_distinct_ascending_and_as_many_as_asked(items: int) -> None:
    rows = sample_rows(RING, items, seed=1)
    assert len(rows) == items
    assert rows == sorted(set(rows))
    assert rows[0] >= 0
    assert rows[-1] < ROWS
    assert rows == sample_rows(RING, items, seed=1)


@pytest.mark.parametrize("items", [10, 100, 1_000])
def test_half_of_a_small_subset_has_a_relation_in_it(items: int) -> None:
    assert with_relation(sample_rows(RING, items, seed=2)) >= 0.48 * items


def test_another_seed_is_another_subset() -> None:
    first, second = set(sample_rows(RING, 100, seed=1)), set(sample_rows(RING, 100, seed=2))
    assert len(first & second) < 20


def test_a_subset_with_relations_enough_is_uniform() -> None:
    items = 5_000
    assert with_relation(sample_rows(RING, items, seed=4)) > items // 2 <= RELATED_WANTED
    order = np.random.default_rng(4).permutation(ROWS)[:items]
    assert sample_rows(RING, items, seed=4) == sorted(order.tolist())


def test_rows_without_any_relation_are_sampled_all_the_same() -> None:
    assert len(sample_rows([[]] * 50, 20, seed=0)) == 20
