"""One table of errors: every code of the core has its row in embedcore.errors, and raises that class."""

from __future__ import annotations

import numpy as np
import pytest

from embedcore import _native, errors


def test_every_native_code_has_an_exception() -> None:
    codes = _native.error_codes()
    assert len(codes) == 10
    for name, raised in codes.items():
        assert raised in errors.ERRORS, f"{name} raises {raised}, which embedcore.errors lacks"
        assert errors.ERRORS[raised].code == raised
        # One is renamed on the way: damaged data that the core reads is always a file of ours.
        assert raised == ("corrupt_snapshot" if name == "data_loss" else name)


def test_every_exception_has_a_native_code_or_is_known_to_be_python_only() -> None:
    python_only = {"gate_not_met", "would_block", "unauthenticated", "permission_denied", "data_loss"}
    assert set(errors.ERRORS) == set(_native.error_codes().values()) | python_only


def test_codes_arrive_as_their_class_with_their_message() -> None:
    with pytest.raises(errors.InvalidArgument, match="at least 8") as invalid:
        _native.ScoreCalibration.fit(np.zeros(1), np.zeros(1))
    assert isinstance(invalid.value, ValueError)
    assert "\n" not in str(invalid.value)
    with pytest.raises(errors.CorruptSnapshotError):
        _native.ScoreCalibration.from_bytes(b"")
    with pytest.raises(errors.Unavailable):
        _native.Router().plan(0)
    with pytest.raises(errors.NotFound) as missing:
        _native.Router().counters(0)
    assert isinstance(missing.value, KeyError)
