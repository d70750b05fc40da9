"""Models at equal freshness, the target as it stands, and claims over several consumers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.freshness import held_by_both
from embedcore.evaluation.golden import GoldenQuery, GoldenSet
from embedcore.evaluation.metrics import PerQuery
from embedcore.evaluation.multiple import claims, holm
from embedcore.evaluation.resolve import HEAD, TAIL, TORSO, Resolver
from embedcore.evaluation.significance import compare_paired


def test_what_both_hold(world: Any) -> None:
    world.fill(2, share=0.5)
    both, live, source_lacks, target_lacks = held_by_both(world.store, 1, 2)
    assert (len(both), live, source_lacks, target_lacks) == (200, 400, 0, 200)
    assert set(both.tolist()) == set(world.store.vectors[2])
    del world.store.vectors[1][int(both[0])]
    assert len(held_by_both(world.store, 1, 2)[0]) == 199
    world.fill(2, share=0.0)
    with pytest.raises(FailedPrecondition, match="held by both"):
        held_by_both(world.store, 1, 2)


def test_a_half_filled_target_loses_as_it_stands_and_wins_as_a_model(world: Any) -> None:
    world.fill(2, share=0.5)
    stands = world.harness.compare("search", 1, 2)
    assert stands.comparison.difference < -0.05
    assert not stands.gates["quality"].passed
    assert stands.freshness is None
    fresh = world.harness.compare("search", 1, 2, equal_freshness=True)
    assert fresh.comparison.difference > 0.05
    assert fresh.gates["quality"].passed
    assert fresh.freshness is not None
    assert (fresh.freshness.both, fresh.freshness.target_lacks) == (200, 200)
    assert fresh.freshness.queries_left_out == stands.source.n - fresh.source.n > 0
    assert fresh.to_document()["freshness"]["live"] == 400
    # With nothing missing the two are the same.
    world.fill(2)
    whole = world.harness.compare("search", 1, 2, equal_freshness=True)
    assert whole.comparison == world.harness.compare("search", 1, 2).comparison
    assert whole.source.index_recall == 1.0


def test_another_golden_set_by_name(world: Any) -> None:
    golden = world.harness.golden.get("search")
    few = golden.model_copy(update={"name": "few", "queries": golden.queries[:40], "public": True})
    world.harness.golden.put(few, gate=False)
    assert world.harness.evaluate("search", 2, golden_set="few").n == 40
    compared = world.harness.compare("search", 1, 2, golden_set="few")
    assert not compared.gates["quality"].passed
    assert "public" in compared.gates["quality"].summary
    with pytest.raises(InvalidArgument, match="is of consumer 'search'"):
        world.harness.evaluate("dedup", 2, golden_set="few")


def test_both_recalls_are_always_reported(world: Any) -> None:
    got = world.harness.evaluate("search", 2)
    assert got.index_recall == 1.0, "the backend searches exactly"
    assert got.index_recall_n == got.n == 300
    assert got.measures.keys() == {"nDCG@5", "RR@5", "R@5"}
    compared = world.harness.compare("dedup", 1, 2)
    assert compared.source.index_recall == compared.target.index_recall == 1.0
    assert compared.target.found_share is not None


def test_buckets_by_age_and_by_frequency(store: Any) -> None:
    for number in range(100):
        store.add(f"i{number}", "t", created_at=1_000.0 + number)
    queries = [
        GoldenQuery(id="old", text="t", relevant={"i1": 1.0, "i3": 1.0}),
        GoldenQuery(id="mixed", text="t", relevant={"i1": 1.0, "i50": 1.0}),
        GoldenQuery(id="new", text="t", relevant={"i99": 1.0}),
        GoldenQuery(id="rare", text="t", relevant={"i99": 1.0}, bucket="tail"),
        GoldenQuery(id="asked often, old", text="t", relevant={"i1": 1.0}, bucket="head"),
        GoldenQuery(id="asked often", text="t", relevant={"i50": 1.0}, bucket="head"),
        GoldenQuery(id="own", text="t", relevant={"i99": 1.0}, bucket="brand"),
    ]
    found = Resolver(store).resolve(GoldenSet(name="s", consumer="search", queries=tuple(queries)))
    assert found.bucket.tolist() == [TAIL, TORSO, HEAD, TAIL, TAIL, HEAD, HEAD]
    assert found.own_buckets["brand"].tolist() == [False] * 6 + [True]
    assert found.take(np.array([4, 6])).bucket.tolist() == [TAIL, HEAD]


def test_holm_against_its_definition() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        values = dict(enumerate(rng.random(int(rng.integers(1, 7))) ** 3))
        got = holm({str(name): float(p) for name, p in values.items()})
        ordered = sorted(values.items(), key=lambda pair: pair[1])
        for rank, (name, _) in enumerate(ordered):
            expected = max(min(1.0, (len(values) - i) * p) for i, (_, p) in enumerate(ordered[: rank + 1]))
            assert got[str(name)] == pytest.approx(expected)
    assert math.isnan(holm({"a": float("nan"), "b": 0.01})["a"])
    assert holm({"a": float("nan"), "b": 0.01})["b"] == 0.01, "a test that could not be made is none"


def test_claims_are_corrected_and_gates_are_not(world: Any) -> None:
    """Of four consumers without a true difference one is claimed in 5% of cases; uncorrected (a planted
    bug) in nearly 20%."""
    base = world.harness.compare("search", 1, 2)
    rng = np.random.default_rng(2)
    corrected = planted = 0
    for run in range(120):
        compared = {}
        for name in "abcd":
            gain = rng.choice([-1.0, 0.0, 1.0], size=200, p=[0.05, 0.9, 0.05])
            values = PerQuery(np.zeros(200), np.ones(200)), PerQuery(gain, np.ones(200))
            made = compare_paired(*values, seed=run, resamples=200)
            compared[name] = type(base)(base.source, base.target, made, base.gates)
        found = claims(compared)
        corrected += any(claim.verdict != "none" for claim in found.values())
        planted += any(one.comparison.p_value <= 0.05 for one in compared.values())
    assert corrected <= 0.05 * 120 + 3 * math.sqrt(0.05 * 0.95 * 120)
    assert planted > corrected
    assert planted >= 0.10 * 120
    better = claims({"search": base})
    assert better["search"].verdict == "improvement"
    assert claims({"search": world.harness.compare("search", 2, 3)})["search"].verdict == "loss"
