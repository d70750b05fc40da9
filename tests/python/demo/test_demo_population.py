"""The simulated users: the model as stated, seeded, and without a lift where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from embedcore.demo.population import (
    ATTRACTED,
    MISTAKEN,
    canary_users,
    click_probabilities,
    control_users,
    draw,
    draw_agreement,
)
from embedcore.errors import InvalidArgument
from embedcore.evaluation.engagement import engagement_gate
from embedcore.types import DEFAULT_CONSUMERS

CONSUMERS = {consumer.name: consumer for consumer in DEFAULT_CONSUMERS}
QUERIES = 500
LABELS = [{f"r{q}": 1.0} for q in range(QUERIES)]


def answers(hit_share: float, k: int, seed: int) -> list[list[str]]:
    """The relevant item at a random rank in ``hit_share`` of the answers."""
    rng = np.random.default_rng(seed)
    made = []
    for query in range(QUERIES):
        ids = [f"x{query}-{rank}" for rank in range(k)]
        if rng.random() < hit_share:
            ids[int(rng.integers(k))] = f"r{query}"
        made.append(ids)
    return made


def test_probabilities_are_relevance_times_position() -> None:
    found = click_probabilities([["a", "b", "c"], ["d"]], [{"b": 1.0, "c": 0.5}, {}], 4)
    at = [1 / math.log2(1 + rank) for rank in range(1, 5)]
    expected = [
        [MISTAKEN * at[0], ATTRACTED * at[1], 0.5 * ATTRACTED * at[2], 0.0],
        [MISTAKEN * at[0], 0.0, 0.0, 0.0],
    ]
    np.testing.assert_allclose(found, expected)
    with pytest.raises(InvalidArgument, match="2 answers"):
        click_probabilities([["a"], ["b"]], [{}], 1)


def test_totals_agree_with_the_probabilities() -> None:
    probabilities = click_probabilities(answers(0.7, 5, 0), LABELS, 5)
    users = 200_000
    totals = draw(probabilities, users, np.random.default_rng(1))
    mean_depth = probabilities.sum(axis=1).mean()
    any_click = (1 - np.prod(1 - probabilities, axis=1)).mean()
    assert totals["impressions"] == users
    assert totals["depth"] / users == pytest.approx(mean_depth, abs=4 * math.sqrt(mean_depth / users))
    assert totals["clicks"] / users == pytest.approx(any_click, abs=4 * 0.5 / math.sqrt(users))
    assert totals["depth_squared"] >= totals["depth"] >= totals["clicks"]


def test_a_seed_repeats_the_users() -> None:
    probabilities = click_probabilities(answers(0.7, 5, 0), LABELS, 5)
    runs = [draw(probabilities, 10_000, np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize("name", ["search", "recsys", "ads"])
def test_equal_rankings_show_no_lift(name: str) -> None:
    consumer = CONSUMERS[name]
    same = click_probabilities(answers(0.7, 5, 0), LABELS, 5)
    users = 20_000
    differences, wrong = [], 0
    for seed in range(12):
        rng = np.random.default_rng([seed, 2])
        arms = {"canary": draw(same, users, rng), "control": draw(same, control_users(users, 0.05), rng)}
        gate = engagement_gate(consumer, arms, at=0.0)
        # The always-valid interval is wider than a fixed one, so it holds 0 with more than 95%.
        lower, difference = gate.evidence["lower"], gate.evidence["difference"]
        wrong += not lower < 0 < 2 * difference - lower
        differences.append(difference)
    assert wrong == 0
    # Unbiased: the mean over seeds is 0 within four of its standard errors.
    assert abs(np.mean(differences)) < 4 * np.std(differences) / math.sqrt(len(differences))


def test_enough_users_are_drawn_to_exclude_the_fall() -> None:
    same = click_probabilities(answers(0.7, 5, 0), LABELS, 5)
    for name in ("search", "recsys", "ads"):
        consumer = CONSUMERS[name]
        users = canary_users(consumer)
        rng = np.random.default_rng(4)
        arms = {"canary": draw(same, users, rng), "control": draw(same, control_users(users, 0.05), rng)}
        gate = engagement_gate(consumer, arms, at=0.0)
        assert gate.passed, gate.summary


def test_a_canary_that_finds_less_is_refused() -> None:
    consumer = CONSUMERS["ads"]
    users = canary_users(consumer)
    rng = np.random.default_rng(3)
    better = click_probabilities(answers(0.75, 5, 0), LABELS, 5)
    worse = click_probabilities(answers(0.70, 5, 0), LABELS, 5)
    arms = {"canary": draw(worse, users, rng), "control": draw(better, control_users(users, 0.05), rng)}
    assert not engagement_gate(consumer, arms, at=0.0).passed


def test_agreement_counts_equal_first_items() -> None:
    control = [["a", "b"], ["c"], [], ["d", "e"]]
    canary = [["a"], ["x", "c"], [], ["d"]]
    totals = draw_agreement(control, canary, 40_000, np.random.default_rng(0))
    assert totals["compared"] == 40_000
    assert totals["agreed"] / 40_000 == pytest.approx(0.75, abs=0.01)
    with pytest.raises(InvalidArgument, match="4 control"):
        draw_agreement(control, canary[:3], 10, np.random.default_rng(0))


def test_counts_are_those_of_the_traffic_split() -> None:
    assert canary_users(CONSUMERS["ads"]) == 400_000
    assert control_users(1_000, 0.05) == 19_000
    with pytest.raises(InvalidArgument):
        control_users(1_000, 0.0)
