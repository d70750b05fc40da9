"""ef_search: the smallest breadth that is shown to be enough, and never one that is not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from embedcore.errors import FailedPrecondition
from embedcore.evaluation import ef_search
from embedcore.evaluation.ef_search import breadths, calibrate_ef, lower_bound


class Widening:
    """A backend whose recall is ef / needed, at most 1: it finds that share of the exact list, at random."""

    def __init__(self, world: Any, needed: float, seed: int = 0) -> None:
        self.exact = world.backend
        self.known: dict[int, Any] = {}
        self.needed = needed
        self.rng = np.random.default_rng(seed)

    def search_generation(
        self, generation: int, queries: np.ndarray, k: int, ef: int, allowed: Any = None
    ) -> Any:
        if len(queries) not in self.known:
            self.known[len(queries)] = self.exact.search_generation(generation, queries, k, ef, allowed)
        ids, far = self.known[len(queries)]
        lost = self.rng.random(ids.shape) >= min(1.0, ef / self.needed)
        return np.where(lost, -1, ids), np.where(lost, np.inf, far).astype(np.float32)


def calibrated(world: Any, needed: float, seed: int = 0) -> Any:
    from dataclasses import replace

    harness = world.harness
    evaluator = replace(harness.evaluator, backend=Widening(world, needed, seed))
    resolved = harness.resolver.resolve(harness.golden.get("search"))
    ticks = itertools.count()
    return calibrate_ef(
        evaluator,
        harness.consumer("search"),
        harness.generation(2),
        resolved,
        lambda what, done, total: None,
        ceiling=256,
        timer=lambda: next(ticks) * 1e-3,
    )


def test_breadths_fall_from_the_widest_to_k() -> None:
    found = breadths(5, 256)
    assert (found[0], found[-1]) == (256, 5)
    assert found == sorted(found, reverse=True)
    assert breadths(500, 256) == [500]


def test_the_bound_has_its_level() -> None:
    rng = np.random.default_rng(1)
    over = [lower_bound(rng.binomial(10, 0.95, 1_000) / 10) > 0.95 for _ in range(2_000)]
    assert 0.005 < np.mean(over) <= 0.06
    assert lower_bound(np.ones(100)) < 1.0


def test_the_smallest_that_is_enough_is_chosen(world: Any) -> None:
    found = calibrated(world, needed=60.0)
    assert found.ef_search is not None
    assert 57 <= found.ef_search <= 64, "0.95 of 60 is 57, and the bound asks for a little more"
    assert found.chosen.lower >= 0.95 > found.tested[-1].lower
    assert [point.ef_search for point in found.tested] == breadths(5, 256)[: len(found.tested)]
    assert found.now.ef_search == 40
    assert found.now.recall == pytest.approx(2 / 3, abs=0.05)
    assert found.chosen.p50_ms == pytest.approx(1.0)
    assert found.to_document()["chosen"]["ef_search"] == found.ef_search


def test_a_breadth_that_is_too_narrow_is_rarely_chosen(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The true need is 57; in at most 5% of calibrations something below it is chosen. Taking the first that
    reaches the target as observed (a planted bug) does so in about half of them."""
    monkeypatch.setattr(ef_search, "_TIMED", 1)
    wrong = planted = 0
    for seed in range(40):
        found = calibrated(world, needed=64.0, seed=seed)  # 0.95 of it is 60.8, and 57 is a breadth tested
        wrong += found.ef_search is not None and found.ef_search < 60.8
        planted += any(p.ef_search < 60.8 and p.recall >= 0.95 for p in found.tested)
    assert wrong <= 0.05 * 40 + 3 * np.sqrt(0.05 * 0.95 * 40)
    assert planted >= wrong


def test_a_target_out_of_reach_is_said_to_be(world: Any) -> None:
    found = calibrated(world, needed=1_000.0)
    assert found.ef_search is None
    assert len(found.tested) == 1
    golden = world.harness.golden.get("search")
    world.harness.golden.put(golden.model_copy(update={"queries": golden.queries[:20]}))
    with pytest.raises(FailedPrecondition, match="too few"):
        world.harness.calibrator.ef_search("search", 2)
