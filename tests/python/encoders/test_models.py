"""The built-in models, and that the two faulty ones are really faulty."""

from __future__ import annotations

import numpy as np
import pytest

from embedcore.encoders import (
    NEW,
    OLD,
    TRUNCATED,
    UNNORMALISED,
    CheckedEncoder,
    OnnxEncoder,
    builtin_models,
    load_encoder,
)
from embedcore.errors import DataLoss
from embedcore.types import ModelSpec

# What is stored with every vector. A change here makes all stored vectors foreign: never edit, add a model.
DIGESTS = {
    "minilm-l3": "ec1-4c4b0bf3104ad1e849647ce0a990c487",
    "minilm-l6": "ec1-1da87649585402d8fbdc4026e7b7d9a2",
    "minilm-l6-unnormalised": "ec1-7369f94ea4233021288de4cd31958c68",
    "minilm-l6-truncated": "ec1-c549dc02051d325a53675481c13402c1",
}


def test_the_fingerprints_of_released_models_never_change() -> None:
    assert {name: spec.fingerprint.digest for name, spec in builtin_models().items()} == DIGESTS


def test_all_claim_unit_vectors_of_384_dimensions() -> None:
    for name, spec in builtin_models().items():
        assert spec.name == name
        assert spec.backend == "onnx"
        assert spec.fingerprint.normalisation == "l2"
        assert spec.fingerprint.dimension == 384


def test_specifications_survive_json() -> None:
    for spec in builtin_models().values():
        assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.models
def test_old_and_new_are_different_spaces(minilm_l3: OnnxEncoder, minilm_l6: OnnxEncoder) -> None:
    texts = ["financial institution", "bank of a river", "dog", "to run away"]
    cosines = (minilm_l3.encode(texts) * minilm_l6.encode(texts)).sum(axis=1)
    assert np.all(cosines < 0.8)  # SPEC's canary verdict: a full backfill is needed


@pytest.mark.models
def test_the_unnormalised_push_is_stopped_by_its_norms(minilm_l6: OnnxEncoder) -> None:
    faulty = load_encoder(builtin_models()[UNNORMALISED])
    raw = faulty.encode(["dog", "cat"])
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    assert norms.min() > 1.5
    # Right but for the lost division: nothing else is wrong with it.
    np.testing.assert_allclose(raw / norms, minilm_l6.encode(["dog", "cat"]), atol=2e-6)
    with pytest.raises(DataLoss, match="norm off 1") as caught:
        CheckedEncoder(faulty).encode(["dog", "cat"])
    assert caught.value.details["rows"] == 2
    assert caught.value.details["max_deviation"] == pytest.approx(norms.max() - 1, rel=1e-5)


@pytest.mark.models
def test_the_truncated_push_passes_the_norm_check_and_forgets_the_text(minilm_l6: OnnxEncoder) -> None:
    faulty = CheckedEncoder(load_encoder(builtin_models()[TRUNCATED]))
    texts = ["the dog chased a cat", "the dog solves equations"]
    first, second = faulty.encode(texts)
    assert np.array_equal(first, second)
    assert not np.array_equal(*minilm_l6.encode(texts))


def test_the_upgrade_is_between_registered_models() -> None:
    assert {OLD, NEW, UNNORMALISED, TRUNCATED} == set(builtin_models())
