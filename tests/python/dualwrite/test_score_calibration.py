"""ScoreCalibration against an independent fit: SciPy's isotonic regression and NumPy's interpolation."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from embedcore import CorruptSnapshotError, ScoreCalibration
from embedcore.errors import InvalidArgument, NotFound

Array = NDArray[np.float64]
FLAT = 1e-5  # how far the slope that keeps order may lift a value, for targets in [0, 1]


def oracle_knots(source: Array, target: Array) -> tuple[Array, Array]:
    """Centres of the runs of equal value of SciPy's fit; ties of the source are averaged first."""
    values, inverse, counts = np.unique(source, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=target) / counts
    fit = isotonic_regression(means, weights=counts).x
    run = np.concatenate([[0], np.cumsum(~np.isclose(np.diff(fit), 0, atol=1e-12))])
    weight = np.bincount(run, weights=counts)
    return np.bincount(run, weights=values * counts) / weight, np.bincount(run, weights=fit * counts) / weight


def oracle_map(x: Array, y: Array, at: Array) -> Array:
    """Linear between knots, beyond them along the chord to the first knot an eighth of the range away."""
    reach = (x[-1] - x[0]) / 8
    low = next(i for i in range(1, len(x)) if x[i] - x[0] >= reach)
    high = next(i for i in range(len(x) - 2, -1, -1) if x[-1] - x[i] >= reach)
    below = y[0] + (at - x[0]) * (y[low] - y[0]) / (x[low] - x[0])
    above = y[-1] + (at - x[-1]) * (y[-1] - y[high]) / (x[-1] - x[high])
    inside = np.interp(at, x, y)
    return np.where(at < x[0], below, np.where(at > x[-1], above, inside))


thousandths = st.integers(0, 1000).map(lambda i: i / 1000)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(thousandths, thousandths), min_size=8, max_size=60))
@example([(0.0, 0.0)] * 3 + [(0.001, 0.0), (0.001, 0.059), (0.001, 0.52), (0.002, 0.0), (0.002, 0.386)])
def test_fit_agrees_with_scipy(pairs: list[tuple[float, float]]) -> None:
    source, target = np.array(pairs).T
    calibration = ScoreCalibration.fit(source, target)
    # Two runs of the same level are one knot or two by the last bit of a sum.
    tilted = [oracle_knots(source, target + tilt * source)[0] for tilt in (-1e-6, 1e-6)]
    assume(len(tilted[0]) == len(tilted[1]))
    x, y = oracle_knots(source, target)
    assert calibration.pairs == len(pairs)
    if len(x) == 1:  # no rising relation: a level, or a shift where all source scores are one
        assert calibration(float(x[0])) == pytest.approx(y[0], abs=FLAT)
        return
    # A knot just an eighth of the range away is taken or not by the last bit of a sum.
    reach = (x[-1] - x[0]) / 8
    assume(not np.isclose(np.concatenate([x - x[0], x[-1] - x]), reach, rtol=0, atol=1e-9).any())
    at = np.linspace(source.min() - 0.3, source.max() + 0.3, 200)
    # A steep end magnifies the lift of a knot beyond the range.
    slope = np.max(np.diff(y)) / (x[-1] - x[0]) * 8
    np.testing.assert_allclose(calibration(at), oracle_map(x, y, at), atol=FLAT * (1 + slope), rtol=0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(thousandths, thousandths), min_size=8, max_size=300), st.booleans())
def test_map_increases_strictly(pairs: list[tuple[float, float]], falling: bool) -> None:
    source, target = np.array(pairs).T
    if falling:
        target = -source
    calibration = ScoreCalibration.fit(source, target)
    values = calibration(np.linspace(-1, 2, 3001))
    assert np.all(np.diff(values) > 0)
    old, new = calibration.knots
    assert 2 <= len(old) <= 64
    assert np.all(np.diff(old) > 0)
    assert np.all(np.diff(new) > 0)


def test_compression_costs_little() -> None:
    """More than 64 pools become at most 64 runs, and the map is no farther from the truth for it."""
    rng = np.random.default_rng(7)
    source = rng.uniform(0, 1, 20_000)
    truth = 0.2 + 0.5 * source**2
    target = truth + rng.normal(0, 0.05, source.size)
    calibration = ScoreCalibration.fit(source, target)
    order = np.argsort(source)
    fit = np.empty_like(target)
    fit[order] = isotonic_regression(target[order]).x
    assert len(np.unique(fit)) > 64
    assert 32 < len(calibration.knots[0]) <= 64
    assert np.mean((calibration(source) - truth) ** 2) < np.mean((fit - truth) ** 2)


def test_scalar_array_and_shape() -> None:
    line = np.arange(10.0)
    calibration = ScoreCalibration.fit(line, 3 * line)
    assert isinstance(calibration(2.5), float)
    assert calibration(2.5) == pytest.approx(7.5)
    batch = calibration(np.array([[1.0, 2.0], [3.0, np.inf]], dtype=np.float32))
    assert batch.shape == (2, 2)
    assert batch.dtype == np.float64
    np.testing.assert_allclose(batch, np.array([[3, 6], [9, np.inf]]))


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (np.arange(7.0), np.arange(7.0), "at least 8"),
        (np.arange(9.0), np.arange(8.0), "9 of the source and 8 of the target"),
        (np.full(8, np.nan), np.arange(8.0), "not finite"),
        (np.arange(8.0), np.array([0, 1, 2, 3, np.inf, 5, 6, 7]), "pair 4"),
    ],
)
def test_bad_pairs_are_refused(source: Array, target: Array, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        ScoreCalibration.fit(source, target)


def test_saved_loaded_and_pickled(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    source = rng.uniform(0, 1, 500)
    calibration = ScoreCalibration.fit(source, source**2 + rng.normal(0, 0.01, 500))
    path = tmp_path / "calibration"
    calibration.save(path)
    assert path.read_bytes() == calibration.to_bytes()
    for other in (
        ScoreCalibration.load(path),
        ScoreCalibration.load(str(path)),
        ScoreCalibration.from_bytes(calibration.to_bytes()),
        pickle.loads(pickle.dumps(calibration)),
    ):
        np.testing.assert_array_equal(other(source), calibration(source))
        assert other.pairs == 500


def test_damaged_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "calibration"
    with pytest.raises(NotFound, match="calibration"):
        ScoreCalibration.load(path)
    ScoreCalibration.fit(np.arange(8.0), np.arange(8.0)).save(path)
    damaged = bytearray(path.read_bytes())
    damaged[30] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CorruptSnapshotError, match="checksum") as caught:
        ScoreCalibration.load(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ValueError)
    path.write_bytes(b"not this")
    with pytest.raises(CorruptSnapshotError):
        ScoreCalibration.load(path)
