"""Score pairs between generations: of items both hold, near and far, as the indexes count distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.calibration import CalibrationPairs, collect_pairs


def queries(world: Any, model: str, count: int = 30) -> np.ndarray:
    golden = world.harness.golden.get("search")
    return world.encoders.encode_bulk(model, [query.text for query in golden.queries[:count]])


def collect(world: Any, **options: Any) -> CalibrationPairs:
    old, new = world.store.known_generations[0], world.store.known_generations[1]
    return collect_pairs(
        world.store, world.backend, old, new, queries(world, "old"), queries(world, "new"), **options
    )


def test_pairs_are_distances_of_the_same_query_and_item(world: Any) -> None:
    pairs = collect(world, top=5, background=6, seed=3)
    assert pairs.queries == 30
    assert 30 * 8 < len(pairs.source) <= 30 * 11
    possible = set()
    for a, b in zip(queries(world, "old"), queries(world, "new"), strict=True):
        for item in world.store.live():
            before = 1 - float(a.astype(np.float64) @ world.store.vectors[1][item])
            after = 1 - float(b.astype(np.float64) @ world.store.vectors[2][item])
            possible.add((round(before, 5), round(after, 5)))
    got = set(zip(pairs.source.round(5).tolist(), pairs.target.round(5).tolist(), strict=True))
    near = {
        (round(a + da, 5), round(b + db, 5))
        for a, b in possible
        for da in (-1e-5, 0, 1e-5)
        for db in (-1e-5, 0, 1e-5)
    }
    assert got <= near
    again = collect(world, top=5, background=6, seed=3)
    assert np.array_equal(pairs.source, again.source)


def test_both_ends_are_covered(world: Any) -> None:
    pairs = collect(world)
    top_only = collect(world, background=0)
    assert pairs.source.max() > top_only.source.max() + 0.1
    assert pairs.source.min() == pytest.approx(top_only.source.min())
    assert np.corrcoef(pairs.source, pairs.target)[0, 1] > 0.3


def test_only_items_that_both_hold(world: Any) -> None:
    world.fill(2, share=0.25)
    quarter = collect(world)
    assert 0 < len(quarter.source) < len(queries(world, "old")) * 20
    assert quarter.items <= 100
    world.fill(2, share=0.0)
    nothing = collect(world)
    assert len(nothing.source) == 0
    with pytest.raises(FailedPrecondition, match="at least 8 pairs"):
        nothing.fit()
    seven = CalibrationPairs(np.arange(7.0), np.arange(7.0), 1, 7)
    with pytest.raises(FailedPrecondition, match="got 7"):
        seven.fit()


def test_rows_have_to_be_the_same_queries(world: Any) -> None:
    old, new = world.store.known_generations[:2]
    with pytest.raises(InvalidArgument, match="30 and 29"):
        collect_pairs(world.store, world.backend, old, new, queries(world, "old"), queries(world, "new", 29))


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_other_metrics(world: Any, metric: str) -> None:
    for position in (0, 1):
        generation = world.store.known_generations[position]
        space = generation.fingerprint.model_copy(update={"metric": metric})
        world.store.known_generations[position] = generation.model_copy(update={"fingerprint": space})
    pairs = collect(world, top=3, background=2)
    scale = {"ip": 1.0, "l2": 2.0}[metric]  # of unit vectors: |a - b|^2 = 2 (1 - a.b)
    assert pairs.source == pytest.approx(_cosine_pairs(world).source * scale, abs=1e-5)


def _cosine_pairs(world: Any) -> CalibrationPairs:
    for position in (0, 1):
        generation = world.store.known_generations[position]
        space = generation.fingerprint.model_copy(update={"metric": "cosine"})
        world.store.known_generations[position] = generation.model_copy(update={"fingerprint": space})
    return collect(world, top=3, background=2)


def test_the_harness_collects_over_all_consumers(world: Any) -> None:
    pairs = world.harness.calibration_pairs(1, 2, queries=40)
    assert pairs.queries == 40
    assert world.encoders.calls["new"] == 400 + 40, "only the drawn queries are encoded"


def test_the_fitted_map_is_monotone_and_near_the_pairs(world: Any) -> None:
    pytest.importorskip("embedcore._native", reason="the native core is not built")
    pairs = world.harness.calibration_pairs(1, 2)
    calibration = pairs.fit()
    grid = np.linspace(pairs.source.min(), pairs.source.max(), 200)
    mapped = np.asarray(calibration(grid))
    assert np.all(np.diff(mapped) > 0)
    predicted = np.asarray(calibration(pairs.source))
    error = np.mean((predicted - pairs.target) ** 2)
    assert error < np.var(pairs.target), "better than a constant"
    assert abs(predicted.mean() - pairs.target.mean()) < 0.02
