"""A batch with one wrong vector is refused whole, with the row and by how much."""

from __future__ import annotations

import numpy as np
import pytest

from embedcore.encoders import CheckedEncoder, check_vectors, problem_of
from embedcore.encoders.checks import NORM_TOLERANCE
from embedcore.errors import DataLoss, InvalidArgument

from .conftest import DIMENSION, FakeEncoder, fingerprint, unit_vectors

TEXTS = ["a", "b", "c", "d"]


def test_right_vectors_pass_unchanged(fake: FakeEncoder) -> None:
    np.testing.assert_array_equal(CheckedEncoder(fake).encode(TEXTS), unit_vectors(TEXTS))
    assert CheckedEncoder(fake).encode([]).shape == (0, DIMENSION)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite(fake: FakeEncoder, value: float) -> None:
    def broken(texts: object) -> np.ndarray:
        vectors = unit_vectors(TEXTS)
        vectors[2, 3] = value
        return vectors

    fake.make = broken
    with pytest.raises(DataLoss, match="row 2 is not finite") as caught:
        CheckedEncoder(fake).encode(TEXTS)
    assert caught.value.details["row"] == 2
    assert caught.value.details["rows"] == 1


@pytest.mark.parametrize("shape", [(3, DIMENSION), (4, DIMENSION - 1), (4,), (4, DIMENSION, 1), ()], ids=str)
def test_another_shape(fake: FakeEncoder, shape: tuple[int, ...]) -> None:
    fake.make = lambda texts: np.zeros(shape, dtype=np.float32)
    with pytest.raises(DataLoss, match=r"\(4, 8\) is expected") as caught:
        CheckedEncoder(fake).encode(TEXTS)
    assert caught.value.details["shape"] == list(shape)


def test_the_row_farthest_from_norm_1_is_named() -> None:
    vectors = unit_vectors(TEXTS)
    vectors[1] *= 1.01
    vectors[3] *= 0.5
    with pytest.raises(DataLoss, match="row 3") as caught:
        check_vectors(vectors, fingerprint())
    assert caught.value.details["max_deviation"] == pytest.approx(0.5, abs=1e-6)
    assert caught.value.details["rows"] == 2
    assert caught.value.details["fingerprint"] == fingerprint().digest


def test_a_zero_vector_and_a_huge_one_are_off() -> None:
    vectors = unit_vectors(TEXTS)
    vectors[0] = 0
    problem = problem_of(vectors, fingerprint())
    assert problem is not None
    assert problem.row == 0
    vectors[1] = 3e38  # its squared norm overflows float32
    problem = problem_of(vectors, fingerprint())
    assert problem is not None
    assert problem.row == 1
    assert np.isfinite(problem.details["max_deviation"])


def test_norms_are_free_where_the_fingerprint_says_so() -> None:
    assert problem_of(unit_vectors(TEXTS) * 7, fingerprint(normalisation="none")) is None
    assert problem_of(unit_vectors(TEXTS) * 7, fingerprint()) is not None


@pytest.mark.parametrize("dtype", sorted(NORM_TOLERANCE))
def test_the_tolerance_is_the_dtypes(dtype: str) -> None:
    space = fingerprint(dtype=dtype)
    tolerance = NORM_TOLERANCE[dtype]
    assert problem_of(unit_vectors(TEXTS) * np.float32(1 + 0.9 * tolerance), space) is None
    assert problem_of(unit_vectors(TEXTS) * np.float32(1 + 1.1 * tolerance), space) is not None


def test_rounding_to_a_narrow_dtype_stays_inside_its_tolerance() -> None:
    rng = np.random.default_rng(4)
    wide = rng.normal(size=(500, 384))
    unit = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    assert problem_of(unit.astype(np.float16), fingerprint(dimension=384, dtype="float16")) is None
    as_bits = unit.view(np.uint32)
    bfloat16 = ((as_bits + 0x7FFF + ((as_bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)
    assert problem_of(bfloat16, fingerprint(dimension=384, dtype="bfloat16")) is None
    step = np.abs(unit).max(axis=1, keepdims=True) / 127
    int8 = (np.round(unit / step) * step).astype(np.float32)
    assert problem_of(int8, fingerprint(dimension=384, dtype="int8")) is None


def test_a_clients_vectors_are_an_invalid_argument() -> None:
    with pytest.raises(InvalidArgument, match=r"vectors of upload\.npy refused.*send the batch again"):
        check_vectors(unit_vectors(TEXTS) * 2, fingerprint(), error=InvalidArgument, source="upload.npy")
