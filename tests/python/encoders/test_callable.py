"""Python functions as encoders, and models whose vectors the client gives."""

from __future__ import annotations

import numpy as np
import pytest

from embedcore.encoders import CallableEncoder, ExternalEncoder
from embedcore.encoders.callable import load_target
from embedcore.encoders.interface import Encoder
from embedcore.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

from .conftest import fingerprint, unit_vectors


def test_the_function_gets_the_texts_and_its_vectors_come_back() -> None:
    seen: list[list[str]] = []

    def function(texts: list[str]) -> list[list[float]]:
        seen.append(texts)
        return unit_vectors(texts).astype(np.float64).tolist()

    encoder = CallableEncoder(function, fingerprint())
    vectors = encoder.encode(("a", "b"))
    assert seen == [["a", "b"]]
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    np.testing.assert_allclose(vectors, unit_vectors(["a", "b"]), atol=1e-7)
    assert isinstance(encoder, Encoder)


def test_no_texts_do_not_reach_the_function() -> None:
    def function(texts: list[str]) -> object:
        raise AssertionError(texts)

    assert CallableEncoder(function, fingerprint()).encode([]).shape == (0, 8)


def test_texts_are_checked_first() -> None:
    with pytest.raises(InvalidArgument, match="text 0"):
        CallableEncoder(unit_vectors, fingerprint()).encode([7])  # type: ignore[list-item]


def test_an_exception_of_the_function_becomes_unavailable() -> None:
    def function(texts: list[str]) -> object:
        raise RuntimeError("out of tokens")

    with pytest.raises(Unavailable, match="RuntimeError: out of tokens") as caught:
        CallableEncoder(function, fingerprint()).encode(["a"])
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_errors_of_embedcore_pass_unchanged() -> None:
    def function(texts: list[str]) -> object:
        raise ResourceExhausted("later")

    with pytest.raises(ResourceExhausted, match="later"):
        CallableEncoder(function, fingerprint()).encode(["a"])


@pytest.mark.parametrize("answer", ["text", [[1.0], [1.0, 2.0]], None, [object()]])
def test_an_answer_that_is_no_array_is_refused(answer: object) -> None:
    encoder = CallableEncoder(lambda texts: answer, fingerprint())
    # None becomes NaN in NumPy: that is for the check around every encoder to refuse.
    if answer is None:
        assert encoder.encode(["a"]).shape != (1, 8)
    else:
        with pytest.raises(DataLoss, match=r"shape \(1, 8\)"):
            encoder.encode(["a"])


def test_what_cannot_be_called_is_no_encoder() -> None:
    with pytest.raises(InvalidArgument, match="callable"):
        CallableEncoder(3, fingerprint())  # type: ignore[arg-type]


def test_a_target_is_loaded_by_name() -> None:
    assert load_target("json:dumps") is __import__("json").dumps
    assert load_target("json:JSONEncoder.default") is __import__("json").JSONEncoder.default


@pytest.mark.parametrize("target", ["", "json", "json:", ":dumps"])
def test_a_malformed_target_is_refused(target: str) -> None:
    with pytest.raises(InvalidArgument, match=r"package\.module:function"):
        load_target(target)


@pytest.mark.parametrize("target", ["no_such_module_here:f", "json:no_such_function", "json:__name__"])
def test_a_target_that_is_not_there_is_not_found(target: str) -> None:
    with pytest.raises(NotFound, match="target"):
        load_target(target)


def test_an_external_model_asks_for_vectors() -> None:
    encoder = ExternalEncoder(fingerprint())
    with pytest.raises(FailedPrecondition, match="give vectors of fingerprint ec1-"):
        encoder.encode(["a"])
    assert encoder.fingerprint == fingerprint()
