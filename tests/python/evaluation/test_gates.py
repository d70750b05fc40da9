"""Gates: verdicts, their evidence, and their error rates in a small seeded simulation."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from embedcore.errors import InvalidArgument
from embedcore.evaluation.gates import (
    blended_gate,
    coverage_gate,
    long_tail_gate,
    no_evidence,
    quality_gate,
    sufficient_gate,
    target_gate,
)
from embedcore.evaluation.metrics import PerQuery
from embedcore.evaluation.norms import norms_gate
from embedcore.evaluation.result import Compared, Evaluation
from embedcore.evaluation.significance import compare_paired
from embedcore.migration_types import GateResult, Plan
from embedcore.store.interface import Coverage
from embedcore.types import Consumer, StoredItem

SEARCH = Consumer(name="search", k=10, quality_target=0.85)
STRICT, NON_INFERIOR = Plan(policy="strict"), Plan(policy="non-inferior")
AT = 1_700_000_000.0


def evaluation(num: Any, tail: Any = None, **fields: Any) -> Evaluation:
    values = PerQuery(np.asarray(num, np.float64), np.ones(len(num)))
    mask = np.zeros(len(num), np.bool_) if tail is None else np.asarray(tail)
    defaults: dict[str, Any] = {
        "consumer": "search",
        "metric_name": "recall@10",
        "k": 10,
        "generation": 1,
        "model": "m",
        "weight": None,
        "golden": "set",
        "golden_digest": "gs1-0",
        "public": False,
        "at": AT,
        "seed": 0,
        "queries": len(num),
        "left_out": 0,
        "metric": values.value,
        "lower": 0.0,
        "upper": 1.0,
        "long_tail": values.take(mask).value if mask.any() else math.nan,
        "long_tail_n": int(mask.sum()),
        "rows": np.arange(len(num)),
        "values": values,
        "bucket": np.where(mask, 2, 1),
    }
    return Evaluation(**{**defaults, **fields})


def serialisable(gate: GateResult) -> None:
    assert json.loads(json.dumps(gate.model_dump(), allow_nan=False))["gate"] == gate.gate
    assert "\n" not in gate.summary


def model(rng: np.random.Generator, n: int, shift: float) -> tuple[Evaluation, Evaluation]:
    """Binary outcomes: 80% found by the source; 9% of queries change, and the target gains ``shift``."""
    before = rng.random(n) < 0.8
    changed = rng.random(n) < 0.09
    # P(found | changed) such that the mean moves by the shift exactly, in expectation.
    after = np.where(changed, rng.random(n) < 0.8 + shift / 0.09, before)
    return evaluation(before), evaluation(after)


def test_strict_needs_both_halves_of_its_rule() -> None:
    rng = np.random.default_rng(0)
    few_before, few_after = model(rng, 60, 0.0)
    noisy = quality_gate(
        SEARCH, few_before, evaluation(np.maximum(few_before.values.num, few_after.values.num)), STRICT, at=AT
    )
    assert noisy.passed, "a pure gain has a bound above the margin"
    # Up as observed, yet so few queries that a loss beyond the margin is not excluded.
    up = evaluation(np.r_[np.zeros(20), np.ones(22), np.ones(58)])
    down = evaluation(np.r_[np.ones(20), np.zeros(22), np.ones(58)])
    gate = quality_gate(SEARCH, down, up, STRICT, at=AT)
    assert gate.evidence["difference"] > 0
    assert gate.evidence["one_sided_lower"] < -0.02
    assert not gate.passed
    planted = gate.evidence["difference"] >= 0  # a gate that ignores the lower bound
    assert planted != gate.passed, "the planted gate would have let this through"


def test_worse_as_observed_but_within_the_margin() -> None:
    before = np.tile([1.0, 1.0, 0.0, 1.0], 1000)
    after = before.copy()
    after[:8] = 0.0
    source, target = evaluation(before), evaluation(after)
    assert not quality_gate(SEARCH, source, target, STRICT, at=AT).passed
    assert quality_gate(SEARCH, source, target, NON_INFERIOR, at=AT).passed
    assert "worse as observed" in quality_gate(SEARCH, source, target, STRICT, at=AT).summary
    assert not quality_gate(SEARCH, source, target, Plan(policy="non-inferior", margin=0.001), at=AT).passed


def test_screening_refuses_a_shown_loss_and_not_a_coin_toss() -> None:
    before = np.ones(1000)
    one_lost, many_lost = before.copy(), before.copy()
    one_lost[0] = 0.0
    many_lost[:10] = 0.0
    source = evaluation(before)
    for lost, screened in ((one_lost, True), (many_lost, False)):
        gate = quality_gate(SEARCH, source, evaluation(lost), STRICT, at=AT, screening=True)
        assert gate.passed is screened
        assert gate.evidence["one_sided_lower"] > -0.02
        assert not quality_gate(SEARCH, source, evaluation(lost), STRICT, at=AT).passed
        assert quality_gate(SEARCH, source, evaluation(lost), NON_INFERIOR, at=AT, screening=True).passed
    assert "a loss is shown" in gate.summary


def test_quality_evidence_says_what_the_verdict_rests_on() -> None:
    source, target = model(np.random.default_rng(0), 400, 0.02)
    gate = quality_gate(SEARCH, source, target, STRICT, at=AT, seed=12)
    serialisable(gate)
    assert gate.at == AT
    for name in (
        "source",
        "target",
        "difference",
        "one_sided_lower",
        "n",
        "policy",
        "margin",
        "seed",
        "golden_digest",
    ):
        assert name in gate.evidence
    assert (gate.evidence["n"], gate.evidence["seed"], gate.evidence["policy"]) == (400, 12, "strict")
    assert gate == quality_gate(SEARCH, source, target, STRICT, at=AT, seed=12)


@pytest.mark.parametrize("count", [0, 1, 29])
def test_too_few_queries_are_no_evidence(count: int) -> None:
    same = evaluation(np.ones(count), metric=1.0)
    for gate in (
        quality_gate(SEARCH, same, same, NON_INFERIOR, at=AT),
        sufficient_gate(SEARCH, compare_paired(same.values, same.values, seed=0), STRICT, at=AT),
        target_gate(SEARCH, same, at=AT),
        blended_gate(SEARCH, same, same, compare_paired(same.values, same.values, seed=0), STRICT, at=AT),
    ):
        assert not gate.passed
        assert "evidence" in gate.summary
        serialisable(gate)


def test_undefined_metrics_and_public_sets_do_not_pass() -> None:
    nothing = evaluation(np.zeros(100), values=PerQuery(np.zeros(100), np.zeros(100)), metric=math.nan)
    good = evaluation(np.ones(100))
    assert not quality_gate(SEARCH, good, nothing, STRICT, at=AT).passed
    assert not quality_gate(SEARCH, nothing, good, STRICT, at=AT).passed
    serialisable(quality_gate(SEARCH, nothing, good, STRICT, at=AT))
    public = evaluation(np.ones(100), public=True)
    assert quality_gate(SEARCH, good, good, STRICT, at=AT).passed
    refused = quality_gate(SEARCH, public, public, STRICT, at=AT)
    assert not refused.passed
    assert "public" in refused.summary


def test_evaluations_of_other_queries_are_not_compared() -> None:
    a = evaluation(np.ones(100))
    for other in (
        evaluation(np.ones(99)),
        evaluation(np.ones(100), rows=np.arange(1, 101)),
        evaluation(np.ones(100), golden_digest="gs1-1"),
        evaluation(np.ones(100), consumer="ads"),
    ):
        with pytest.raises(InvalidArgument, match="same"):
            quality_gate(SEARCH, a, other, STRICT, at=AT)


def test_sufficient_names_the_size_that_would_do() -> None:
    source, target = model(np.random.default_rng(0), 300, 0.0)
    comparison = compare_paired(source.values, target.values, seed=0, resamples=50)
    gate = sufficient_gate(SEARCH, comparison, STRICT, at=AT)
    assert not gate.passed
    needed = gate.evidence["queries_needed"]
    assert str(needed) in gate.summary
    assert needed == math.ceil(300 * (comparison.mde / 0.02) ** 2)
    bigger = model(np.random.default_rng(0), int(needed * 1.3), 0.0)
    enough = compare_paired(bigger[0].values, bigger[1].values, seed=0, resamples=50)
    assert sufficient_gate(SEARCH, enough, STRICT, at=AT).passed
    serialisable(gate)


def test_target_is_absolute() -> None:
    at_target = evaluation(np.r_[np.ones(85), np.zeros(15)])
    below = evaluation(np.r_[np.ones(84), np.zeros(16)])
    assert target_gate(SEARCH, at_target, at=AT).passed
    assert not target_gate(SEARCH, below, at=AT).passed


def test_long_tail_is_judged_apart_from_the_rest() -> None:
    tail = np.arange(1000) < 100
    before, after = np.full(1000, 0.8), np.full(1000, 0.9)
    source = evaluation(before, tail)
    for value, expected in ((0.751, True), (0.7499, False)):
        changed = after.copy()
        changed[:100] = value
        target = evaluation(changed, tail)
        assert quality_gate(SEARCH, source, target, STRICT, at=AT).passed, "the aggregate hides it"
        gate = long_tail_gate(SEARCH, source, target, STRICT, at=AT)
        assert gate.passed is expected
        serialisable(gate)


def test_a_small_long_tail_is_reported_as_not_judged() -> None:
    tail = np.arange(1000) < 29
    gate = long_tail_gate(
        SEARCH, evaluation(np.ones(1000), tail), evaluation(np.zeros(1000), tail), STRICT, at=AT
    )
    assert gate.passed
    assert "not judged" in gate.summary
    assert gate.evidence["judged"] is False
    empty = evaluation(np.ones(1000))
    serialisable(long_tail_gate(SEARCH, empty, empty, STRICT, at=AT))


def test_blended_fires_on_a_shown_loss_alone() -> None:
    rng = np.random.default_rng(3)
    fired = dict.fromkeys((0.0, -0.08), 0)
    for shift in fired:
        for run in range(30):
            source, blended = model(rng, 500, shift)
            comparison = compare_paired(source.values, blended.values, seed=run, resamples=200)
            gate = blended_gate(SEARCH, source, blended, comparison, STRICT, at=AT)
            fired[shift] += not gate.passed
    assert fired[0.0] == 0, "asked hundreds of times: no false alarm in 30"
    assert fired[-0.08] >= 29
    serialisable(gate)


def stored(name: str, age_days: float) -> StoredItem:
    created = AT - age_days * 86_400
    return StoredItem(name, "", hash(name) % 1000, 0, 1, created, created, "x", {}, False)


def test_coverage_must_exceed_and_lists_what_is_missing_by_age() -> None:
    missing = [stored("young", 1), stored("old", 90), stored("middle", 30)]
    gate = coverage_gate(Coverage(covered=990, live=1000), missing, STRICT, at=AT)
    assert not gate.passed, "exactly 99% does not exceed 99%"
    assert [item["id"] for item in gate.evidence["missing"]] == ["old", "middle", "young"]
    assert gate.evidence["missing"][0]["age_days"] == 90
    assert gate.evidence["missing_count"] == 10
    assert coverage_gate(Coverage(covered=991, live=1000), missing, STRICT, at=AT).passed
    assert not coverage_gate(Coverage(covered=0, live=0), [], STRICT, at=AT).passed
    serialisable(gate)


def test_norms() -> None:
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((100, 16)).astype(np.float32)
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert norms_gate(unit, at=AT, dimension=16).passed
    assert norms_gate(unit * np.float32(1.0005), at=AT).passed
    off_by_more = unit.copy()
    off_by_more[63] *= 1.002
    refused = norms_gate(off_by_more, at=AT)
    assert not refused.passed
    assert refused.evidence["off"] == 1
    assert "row 63" in refused.summary
    assert norms_gate(off_by_more, at=AT, tolerance=8e-3).passed
    assert not norms_gate(raw, at=AT).passed
    assert norms_gate(raw, at=AT, unit=False).passed
    for broken in (np.nan, np.inf):
        bad = unit.copy()
        bad[5, 3] = broken
        gate = norms_gate(bad, at=AT)
        assert not gate.passed
        assert gate.evidence["first_row"] == 5
        serialisable(gate)
    zero = unit.copy()
    zero[2] = 0
    assert not norms_gate(zero, at=AT, unit=False).passed
    assert not norms_gate(unit, at=AT, dimension=17).passed
    assert not norms_gate(np.zeros((0, 16), np.float32), at=AT).passed
    serialisable(refused)


def test_no_evidence_is_a_gate_not_met() -> None:
    gate = no_evidence("quality", "no golden set", at=AT)
    assert not gate.passed
    same = evaluation(np.ones(50))
    assert not Compared(same, same, compare_paired(same.values, same.values, seed=0), {}).passed
