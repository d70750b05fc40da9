"""embedcore.blend against the protocol's rule written out in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import embedcore
from embedcore import ScoreCalibration
from embedcore import SearchResult as Result
from embedcore.errors import InvalidArgument

Pairs = Sequence[tuple[int, float]]


def result(pairs: Pairs, length: int | None = None) -> Result:
    """A list as an index returns it: ascending, padded."""
    ordered = sorted(pairs, key=lambda p: (p[1], p[0]))
    padding = (length or len(ordered)) - len(ordered)
    ids = [i for i, _ in ordered] + [-1] * padding
    distances = [d for _, d in ordered] + [np.inf] * padding
    return Result(np.array(ids, np.int64), np.array(distances, np.float32))


def oracle(
    old: Result,
    new: Result,
    weight: float,
    calibration: Callable[[float], float],
    k: int,
    held: Sequence[bool] | None,
) -> list[tuple[int, float]]:
    old_scores = {int(i): float(d) for i, d in zip(old.ids, old.distances, strict=True) if i >= 0}
    new_scores = {int(i): float(d) for i, d in zip(new.ids, new.distances, strict=True) if i >= 0}
    if weight in (0, 1):
        return list((new_scores if weight else old_scores).items())[:k]
    lacks = {int(i) for i, h in zip(old.ids, held, strict=True) if not h} if held is not None else set()
    merged = []
    for item in {*old_scores, *new_scores}:
        left = old_scores.get(item, max(old_scores.values(), default=None))
        right = new_scores.get(item)
        if right is None and item not in lacks:
            right = max(new_scores.values(), default=None)
        if left is None:
            score = right
        elif right is None:
            score = calibration(left)
        else:
            score = (1 - weight) * calibration(left) + weight * right
        assert score is not None
        merged.append((score, item))
    return [(item, score) for score, item in sorted(merged)[:k]]


def identity(distance: float) -> float:
    return distance


def check(found: Result, expected: Sequence[tuple[int, float]], k: int) -> None:
    assert found.ids.shape == found.distances.shape == (k,)
    n = len(expected)
    assert found.ids[:n].tolist() == [i for i, _ in expected]
    np.testing.assert_allclose(found.distances[:n], [d for _, d in expected], rtol=1e-6, atol=1e-7)
    assert (found.ids[n:] == -1).all()
    assert np.isinf(found.distances[n:]).all()


# Dyadic numbers: sums and products are exact, so that ties are ties in every implementation.
dyadic = st.integers(0, 64).map(lambda i: i / 64)
lists = st.dictionaries(st.integers(0, 30), dyadic, max_size=12).map(lambda d: list(d.items()))


@settings(max_examples=400, deadline=None)
@given(lists, lists, st.integers(0, 8).map(lambda i: i / 8), st.integers(1, 30), st.data())
def test_blend_is_the_rule(old: Pairs, new: Pairs, weight: float, k: int, data: st.DataObject) -> None:
    left, right = result(old, 12), result(new, 13)
    held = data.draw(st.none() | st.lists(st.booleans(), min_size=12, max_size=12))
    found = embedcore.blend(left, right, weight, None, k, held)
    check(found, oracle(left, right, weight, identity, k, held), k)


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
def test_blend_uses_the_calibration(weight: float) -> None:
    rng = np.random.default_rng(5)
    line = np.linspace(0, 1, 30)
    calibration = ScoreCalibration.fit(line, 0.2 + line**2)
    for _ in range(50):
        old = list(zip(rng.permutation(50)[:20].tolist(), rng.uniform(0, 1.2, 20), strict=True))
        new = list(zip(rng.permutation(50)[:15].tolist(), rng.uniform(0, 1.2, 15), strict=True))
        held = rng.random(20) < 0.5
        left, right = result(old), result(new)
        found = embedcore.blend(left, right, weight, calibration, 10, held)
        check(found, oracle(left, right, weight, calibration, 10, held.tolist()), 10)


@settings(max_examples=100, deadline=None)
@given(lists, lists, st.sampled_from([0.0, 1.0]))
def test_weight_zero_and_one_are_that_list(old: Pairs, new: Pairs, weight: float) -> None:
    left, right = result(old, 12), result(new, 12)
    calibration = ScoreCalibration.fit(np.arange(8.0), 5 + np.arange(8.0))
    found = embedcore.blend(left, right, weight, calibration, 12)
    same = right if weight else left
    np.testing.assert_array_equal(found.ids, same.ids)
    np.testing.assert_array_equal(found.distances, same.distances)


Blend = Callable[[Result, Result, float, int, NDArray[np.bool_]], Result]


def order_by_score_alone(blend: Blend) -> None:
    """Both models agree on every distance, so the merged order is that of the distances: what lists an item
    is in must not matter."""
    rng = np.random.default_rng(9)
    for _ in range(20):
        distance = rng.uniform(0, 1, 40).astype(np.float32)
        held = rng.random(40) < 0.5
        old = result([(i, float(d)) for i, d in enumerate(distance)])
        new = result([(i, float(d)) for i, d in enumerate(distance) if held[i]])
        found = blend(old, new, 0.5, 40, held[old.ids])
        assert found.ids.tolist() == np.argsort(distance).tolist()


def test_no_bonus_for_being_in_both_lists() -> None:
    def ours(old: Result, new: Result, weight: float, k: int, held: NDArray[np.bool_]) -> Result:
        return embedcore.blend(old, new, weight, None, k, held)

    order_by_score_alone(ours)


def test_a_bonus_would_be_caught() -> None:
    """The check above can fail: reciprocal-rank fusion, which adds up over lists, does not pass it."""

    def rank_fusion(old: Result, new: Result, weight: float, k: int, held: NDArray[np.bool_]) -> Result:
        score: dict[int, float] = {}
        for side in (old, new):
            for rank, item in enumerate(side.ids.tolist()):
                score[item] = score.get(item, 0) - 1 / (60 + rank)
        return result(list(score.items()))

    with pytest.raises(AssertionError):
        order_by_score_alone(rank_fusion)


def test_a_batch_is_its_queries() -> None:
    rng = np.random.default_rng(2)
    rows = []
    for _ in range(6):
        old = result(list(zip(rng.permutation(40)[:10].tolist(), rng.uniform(0, 1, 10), strict=True)))
        new = result(list(zip(rng.permutation(40)[:8].tolist(), rng.uniform(0, 1, 8), strict=True)))
        rows.append((old, new, rng.random(10) < 0.5))
    old_batch = Result(np.stack([r[0].ids for r in rows]), np.stack([r[0].distances for r in rows]))
    new_batch = Result(np.stack([r[1].ids for r in rows]), np.stack([r[1].distances for r in rows]))
    held = np.stack([r[2] for r in rows])
    batch = embedcore.blend(old_batch, new_batch, 0.3, None, 12, held)
    assert batch.ids.shape == (6, 12)
    assert batch.ids.dtype == np.int64
    assert batch.distances.dtype == np.float32
    for row, (old, new, holds) in enumerate(rows):
        single = embedcore.blend(old, new, 0.3, None, 12, holds)
        np.testing.assert_array_equal(batch.ids[row], single.ids)
        np.testing.assert_array_equal(batch.distances[row], single.distances)


def test_no_queries_and_no_candidates() -> None:
    empty = Result(np.empty((0, 5), np.int64), np.empty((0, 5), np.float32))
    assert embedcore.blend(empty, empty, 0.5, None, 3).ids.shape == (0, 3)
    nothing = Result(np.empty(0, np.int64), np.empty(0, np.float32))
    assert embedcore.blend(nothing, nothing, 0.5, None, 3).ids.tolist() == [-1, -1, -1]


GOOD = result([(1, 0.1), (2, 0.2)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": 1.5}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"k": 0}, "k must be"),
        ({"held": [True]}, "held must be shaped"),
        ({"new_result": Result(GOOD.ids[None], GOOD.distances[None])}, "same queries"),
        ({"old_result": Result(GOOD.ids, GOOD.distances[:1])}, "old_result needs"),
        ({"old_result": Result(GOOD.ids, np.array([np.nan, 1], np.float32))}, "not finite"),
        ({"new_result": Result(GOOD.ids, np.array([1, np.inf], np.float32))}, "not finite"),
        ({"new_result": Result(GOOD.ids.astype(np.float64), GOOD.distances)}, "whole-number ids"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], said: str) -> None:
    arguments: dict[str, Any] = {
        "old_result": GOOD,
        "new_result": GOOD,
        "weight": 0.5,
        "calibration": None,
        "k": 2,
        **change,
    }
    with pytest.raises(InvalidArgument, match=said):
        embedcore.blend(**arguments)
