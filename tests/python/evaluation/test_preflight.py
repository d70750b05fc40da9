"""Pre-flight: a faulty or worse model is refused before any dual-write is paid, with its evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from embedcore.errors import InvalidArgument
from embedcore.evaluation.canary_set import canary_items, canary_verdict
from embedcore.evaluation.resolve import Resolver
from embedcore.evaluation.sample import choose_sample
from embedcore.migration_types import Plan

PLAN = Plan(preflight_items=200, canary_items=60)


def test_a_better_model_passes_with_both_sides_of_the_evidence(world: Any) -> None:
    report = world.harness.preflight(["search", "dedup"], 1, "new", PLAN)
    assert report.passed, report.refusals
    assert set(report.gates) == {
        "norms",
        "search.quality",
        "search.target",
        "search.long_tail",
        "dedup.quality",
        "dedup.target",
        "dedup.long_tail",
    }
    assert report.items == 200
    assert report.source_encoded == 0, "the source's vectors come from the store"
    assert report.verdict.items == 60
    assert set(report.baseline) == {"search", "dedup"}
    compared = report.compared["search"]
    assert compared.source.n == compared.target.n > 100
    assert compared.source.left_out == 300 - compared.source.n
    assert set(report.advice) == {"search", "dedup"}
    json.dumps(report.to_document(), allow_nan=False)
    json.dumps(report.to_document(arrays=True), allow_nan=False)
    again = world.harness.preflight(["search", "dedup"], 1, "new", PLAN)
    assert again.to_document(arrays=True) == report.to_document(arrays=True)


def test_the_sample_is_judged_by_exact_search_over_itself(world: Any) -> None:
    report = world.harness.preflight(["search"], 1, "new", PLAN)
    golden = world.harness.golden.get("search")
    resolver = Resolver(world.store)
    sample = choose_sample(
        world.store, [resolver.resolve(golden)], 200, 60, _preflight_seed(world.harness)
    ).items
    vectors = world.encoders.encode_bulk("new", [world.store.items[i].content for i in sample])
    expected = {}
    for position, query in enumerate(golden.queries):
        relevant = {world.store.numbers[("", name)] for name in query.relevant} & set(sample.tolist())
        if relevant:
            asked = world.encoders.encode_bulk("new", [query.text])[0]
            order = np.argsort(1 - vectors @ asked, kind="stable")[:5]
            expected[position] = len(relevant & set(sample[order].tolist())) / min(5, len(relevant))
    target = report.compared["search"].target
    assert target.rows.tolist() == list(expected)
    assert np.abs(target.values.num - list(expected.values())).max() < 1e-9
    assert not world.backend.calls, "no index has a part in it"


def _preflight_seed(harness: Any) -> int:
    from embedcore.evaluation.seeds import derive

    return derive(harness._seed, "pre-flight")


def test_a_worse_model_is_refused_by_the_consumer_that_loses(world: Any) -> None:
    report = world.harness.preflight(["search", "dedup"], 2, "bad", PLAN)
    assert not report.passed
    assert not report.gates["search.quality"].passed
    assert report.gates["norms"].passed
    assert any("search" in line for line in report.refusals)


def test_the_gate_is_an_intersection(world: Any) -> None:
    """One consumer below its own target refuses all, however well the others do."""
    hard = world.dedup.model_copy(update={"quality_target": 1.0, "min_found_share": 1.0})
    report = world.harness.preflight([world.search, hard], 1, "new", PLAN)
    assert report.gates["search.quality"].passed
    assert not report.gates["dedup.target"].passed
    assert not report.passed


@pytest.mark.parametrize("model", ["unnormalised", "refusing"])
def test_a_model_that_lost_its_normalisation_is_refused_after_one_batch(world: Any, model: str) -> None:
    world.encoders.calls.clear()
    report = world.harness.preflight(["search", "dedup"], 1, model, PLAN)
    assert not report.passed
    assert list(report.gates) == ["norms"]
    assert not report.gates["norms"].passed
    assert "norm" in report.gates["norms"].summary
    assert world.encoders.calls == {model: 64}, "nothing else was encoded"
    json.dumps(report.to_document(), allow_nan=False)


def test_another_dimension_is_compared_and_called_full(world: Any) -> None:
    report = world.harness.preflight(["search"], 1, "other", PLAN)
    assert report.verdict.verdict == "full"
    assert report.verdict.mean_cosine is None
    assert report.compared["search"].target.n > 100


def test_a_consumer_without_a_golden_set_is_a_gate_not_met(world: Any) -> None:
    ads = world.search.model_copy(update={"name": "ads"})
    report = world.harness.preflight([world.search, ads], 1, "new", PLAN)
    assert not report.passed
    assert "no golden set" in report.gates["ads.quality"].summary
    assert report.gates["search.quality"].passed


def test_what_the_source_does_not_hold_is_encoded(world: Any) -> None:
    world.fill(1, share=0.5)
    report = world.harness.preflight(["search"], 1, "new", PLAN)
    assert 50 < report.source_encoded < 150
    world.fill(1)
    whole = world.harness.preflight(["search"], 1, "new", PLAN)
    assert whole.baseline == report.baseline, "encoded or stored, the same vectors"


def test_items_without_content_are_left_out_and_counted(make_world: Callable[..., Any]) -> None:
    world = make_world(items=120, queries=100)
    for number in range(40):
        world.store.add(f"bare{number}", None)
    report = world.harness.preflight(["search"], 1, "new", Plan(preflight_items=160, canary_items=40))
    assert report.items == 120
    assert report.items_left_out == 40


def test_an_empty_store_passes_nothing(make_world: Callable[..., Any]) -> None:
    world = make_world(items=30, queries=20)
    for number in range(30):
        world.store.delete(f"item{number}")
    report = world.harness.preflight(["search"], 1, "new", PLAN)
    assert not report.passed
    assert "no evidence" in report.refusals[0]


def test_few_queries_are_not_enough_to_pass(make_world: Callable[..., Any]) -> None:
    world = make_world(items=100, queries=20)
    report = world.harness.preflight(["search"], 1, "new", PLAN)
    assert not report.gates["search.quality"].passed
    assert "no evidence" in report.gates["search.quality"].summary


def test_queries_per_consumer_are_capped(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedcore.evaluation.preflight.QUERIES_PER_CONSUMER", 50)
    report = world.harness.preflight(["search"], 1, "new", PLAN)
    assert report.compared["search"].source.n == 50


def test_the_sample_holds_the_canary_set_and_favours_labelled_items(world: Any) -> None:
    resolved = [Resolver(world.store).resolve(world.harness.golden.get(name)) for name in ("search", "dedup")]
    sample = choose_sample(world.store, resolved, 200, 60, seed=1)
    assert len(sample.items) == 200
    assert np.array_equal(sample.canary, canary_items(world.store, 60))
    assert np.isin(sample.canary, sample.items).all()
    labelled = np.unique(np.concatenate([one.relevant.items for one in resolved]))
    others = np.setdiff1d(sample.items, sample.canary)
    assert np.isin(others, labelled).mean() > 0.99, "labels before fillers"
    assert len(choose_sample(world.store, resolved, 200, 1000, seed=1).canary) == 100, "at most half"
    everything = choose_sample(world.store, resolved, 10_000, 60, seed=1)
    assert everything.items.tolist() == world.store.live()
    assert len(choose_sample(world.store, [], 50, 10, seed=1).items) == 50


def test_items_that_serve_several_consumers_come_first(make_world: Callable[..., Any]) -> None:
    world = make_world(items=200, queries=40)
    resolver = Resolver(world.store)
    both = resolver.resolve(world.harness.golden.get("search"))
    half = both.restrict(np.unique(both.relevant.items)[::2])
    shared = np.unique(half.relevant.items)
    budget = len(shared) + 2  # and a canary set of two
    chosen = choose_sample(world.store, [both, half], budget, 2, seed=1).items
    assert np.isin(shared, chosen).all()


def rotated(cosine: float, count: int = 200, dimension: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    old = rng.standard_normal((count, dimension))
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    side = rng.standard_normal((count, dimension))
    side -= np.sum(side * old, axis=1, keepdims=True) * old
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    new = cosine * old + np.sqrt(1 - cosine**2) * side
    return old.astype(np.float32), (3 * new).astype(np.float32)  # a cosine knows no norms


@pytest.mark.parametrize(
    ("cosine", "verdict", "reason"),
    [
        (0.96, "incremental", "> 0.95"),
        (0.949, "full", "between"),
        (0.81, "full", "between"),
        (0.79, "full", "< 0.8"),
        (-0.5, "full", "< 0.8"),
    ],
)
def test_canary_verdicts(cosine: float, verdict: str, reason: str) -> None:
    got = canary_verdict(*rotated(cosine))
    assert (got.verdict, got.items) == (verdict, 200)
    assert got.mean_cosine == pytest.approx(cosine, abs=1e-5)
    assert reason in got.reason


def test_canary_verdict_needs_the_same_items() -> None:
    old, new = rotated(0.9)
    for bad in (new[:-1], new[0], new[:0]):
        with pytest.raises(InvalidArgument):
            canary_verdict(old, bad)
    with pytest.raises(InvalidArgument):
        canary_verdict(old[:0], new[:0])
    assert canary_verdict(old, new[:, :4]).mean_cosine is None
    assert canary_verdict(old, np.zeros_like(new)).mean_cosine == 0.0
