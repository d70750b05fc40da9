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


def test_pairs_are_distances_at_the_same_rank(world: Any) -> None:
    """Against brute force: the j-th nearest of the items that both hold, under either model."""
    world.fill(2, share=0.5)
    pairs = collect(world, top=5, background=0, seed=3)
    both = sorted(world.store.vectors[2])
    expected = []
    for a, b in zip(queries(world, "old"), queries(world, "new"), strict=True):
        sides = [
            np.sort(
                [
                    1 - float(vector.astype(np.float64) @ world.store.vectors[generation][item])
                    for item in both
                ]
            )
            for vector, generation in ((a, 1), (b, 2))
        ]
        expected += list(zip(sides[0][:5], sides[1][:5], strict=True))
    # A list of three times the depth may lack some of a query's five: those it has are the nearest in order.
    got = list(zip(pairs.source, pairs.target, strict=True))
    assert len(got) >= 0.9 * len(expected)
    oracle = np.array(expected)
    for one in got:
        assert np.abs(oracle - one).max(axis=1).min() < 1e-5
    again = collect(world, top=5, background=0, seed=3)
    assert np.array_equal(pairs.source, again.source)


def test_the_map_does_not_draw_towards_the_mean(world: Any) -> None:
    """The near end of the map is the near end of the target's own lists. A regression of one item's two
    distances (a planted bug) puts it farther off, so that back-filled items push the others out."""
    pairs = collect(world, top=10)
    near = pairs.source < np.quantile(pairs.source, 0.05)
    own = np.sort(pairs.target)[: int(near.sum())].mean()
    assert pairs.target[near].mean() == pytest.approx(own, abs=0.05)
    old, new = queries(world, "old"), queries(world, "new")
    items = world.store.live()
    before = 1 - old @ np.array([world.store.vectors[1][item] for item in items]).T
    after = 1 - new @ np.array([world.store.vectors[2][item] for item in items]).T
    nearest = np.argsort(before, axis=1)[:, :1]
    planted = np.take_along_axis(after, nearest, 1).mean()
    assert planted > np.sort(after, axis=1)[:, 0].mean() + 0.02


def test_both_ends_are_covered(world: Any) -> None:
    pairs = collect(world)
    top_only = collect(world, background=0)
    assert pairs.source.max() > top_only.source.max() + 0.1
    assert pairs.source.min() == pytest.approx(top_only.source.min())
    assert np.corrcoef(pairs.source, pairs.target)[0, 1] > 0.3


def test_only_items_that_both_hold(world: Any) -> None:
    world.fill(2, share=0.25)
    quarter = collect(world)
    full = len(queries(world, "old")) * 40
    assert full / 2 < len(quarter.source) < full
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
    # The background comes last; the lists are the backend's, which knows cosines only.
    assert pairs.source[-60:] == pytest.approx(_cosine_pairs(world).source[-60:] * scale, abs=1e-5)


def _cosine_pairs(world: Any) -> CalibrationPairs:
    for position in (0, 1):
        generation = world.store.known_generations[position]
        space = generation.fingerprint.model_copy(update={"metric": "cosine"})
        world.store.known_generations[position] = generation.model_copy(update={"fingerprint": space})
    return collect(world, top=3, background=2)


def test_the_harness_collects_over_all_consumers(world: Any) -> None:
    pairs = world.harness.calibrator.pairs(1, 2, queries=40)
    assert pairs.queries == 40
    assert world.encoders.calls["new"] == 400 + 40, "only the drawn queries are encoded"


def test_the_fitted_map_is_monotone_and_near_the_pairs(world: Any) -> None:
    pytest.importorskip("embedcore._native", reason="the native core is not built")
    pairs = world.harness.calibrator.pairs(1, 2)
    calibration = pairs.fit()
    grid = np.linspace(pairs.source.min(), pairs.source.max(), 200)
    mapped = np.asarray(calibration(grid))
    assert np.all(np.diff(mapped) > 0)
    predicted = np.asarray(calibration(pairs.source))
    error = np.mean((predicted - pairs.target) ** 2)
    assert error < np.var(pairs.target), "better than a constant"
    assert abs(predicted.mean() - pairs.target.mean()) < 0.02


def test_a_cold_start_matches_the_two_backgrounds(world: Any) -> None:
    """Few items are held by both: the map is that of the two background distributions. Both toy spaces have
    the same background, so it is near the identity, where unmatched scales would not be."""
    keep = world.store.live()[-12:]
    world.store.vectors[2] = {item: 3 * world.store.vectors[2][item] for item in keep}
    fitted = world.harness.calibrator.scores(1, 2, queries=40)
    assert fitted.method == "background"
    assert fitted.error < 0.05
    assert world.harness.calibrator.stored(1, 2) == fitted
    assert world.harness.calibrator.stored(2, 1) is None
    from embedcore.dual_write import ScoreCalibration

    curve = ScoreCalibration.from_bytes(bytes.fromhex(fitted.data))
    grid = np.linspace(0.6, 1.3, 50)
    mapped = np.asarray(curve(grid))
    assert np.all(np.diff(mapped) >= 0)
    assert np.abs(mapped - grid).max() < 0.15
    world.fill(2, share=0.0)
    with pytest.raises(FailedPrecondition, match="at least 8 pairs"):
        world.harness.calibrator.scores(1, 2)


def test_real_pairs_win_over_the_backgrounds(world: Any) -> None:
    fitted = world.harness.calibrator.scores(1, 2, queries=40)
    assert fitted.method == "pairs"
    assert fitted.pairs > 200
    assert fitted.queries == 40
