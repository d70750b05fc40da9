"""A model is used only when every byte of it is the one its manifest names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from embedcore.encoders.artifacts import ArtifactFile, ArtifactManifest, installed, read_verified
from embedcore.encoders.models import MINILM_L6, VOCABULARY
from embedcore.errors import DataLoss, Unavailable


def file_of(path: Path, content: bytes) -> ArtifactFile:
    return ArtifactFile(source="path", location=str(path), sha256=hashlib.sha256(content).hexdigest())


def test_the_verified_bytes_come_back(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"right")
    assert read_verified(file_of(tmp_path / "weights", b"right")) == b"right"


def test_one_changed_byte_is_refused_with_file_expected_and_found(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"wrong")
    file = file_of(path, b"right")
    with pytest.raises(DataLoss, match="restore the file") as caught:
        read_verified(file)
    assert caught.value.details == {
        "file": str(path),
        "expected": file.sha256,
        "found": hashlib.sha256(b"wrong").hexdigest(),
    }
    assert "\n" not in caught.value.message


def test_a_missing_file_is_data_loss(tmp_path: Path) -> None:
    file = file_of(tmp_path / "gone", b"x")
    assert not installed(file)
    with pytest.raises(DataLoss, match="is missing") as caught:
        read_verified(file)
    assert caught.value.details["found"] is None


def test_a_package_that_is_not_installed_names_the_extra() -> None:
    file = ArtifactFile(
        source="distribution",
        distribution="embedcore-no-such-model",
        location="m/model.onnx",
        sha256="0" * 64,
    )
    assert not installed(file)
    with pytest.raises(Unavailable, match=r"pip install 'embedcore\[demo\]'"):
        read_verified(file)


def test_a_file_is_found_through_the_metadata_of_its_package() -> None:
    import pydantic

    content = Path(pydantic.__file__).read_bytes()
    file = ArtifactFile(
        source="distribution",
        distribution="pydantic",
        location="pydantic/__init__.py",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    assert installed(file)
    assert read_verified(file) == content


def test_the_carried_vocabulary_is_the_one_of_the_manifests() -> None:
    pieces = read_verified(VOCABULARY).decode().split("\n")
    assert len(pieces) - 1 == 30_522  # the last line ends too
    assert pieces[0] == "[PAD]"
    assert pieces[101:103] == ["[CLS]", "[SEP]"]


@pytest.mark.parametrize("location", ["../outside", "/etc/passwd", "a/../../b"])
def test_a_location_outside_its_package_is_refused(location: str) -> None:
    with pytest.raises(ValidationError, match="must stay inside"):
        ArtifactFile(source="distribution", distribution="pydantic", location=location, sha256="0" * 64)
    with pytest.raises(ValidationError, match="must stay inside"):
        ArtifactFile(source="builtin", location=location, sha256="0" * 64)


def test_a_distribution_is_named_by_its_source_only() -> None:
    with pytest.raises(ValidationError, match="installed package"):
        ArtifactFile(source="distribution", location="a", sha256="0" * 64)
    with pytest.raises(ValidationError, match="installed package"):
        ArtifactFile(source="path", distribution="pydantic", location="a", sha256="0" * 64)


OTHER_FILE = ArtifactFile(source="path", location="x", sha256="1" * 64)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"revision": "2"},
        {"weights": OTHER_FILE},
        {"vocabulary": OTHER_FILE},
        {"tokenizer": {"lowercase": False}},
        {"max_seq_length": 128},
        {"pooling": "cls"},
        {"output": "other"},
        {"normalise": False},
        {"normalise": False, "normalisation": "none"},
        {"dimension": 512},
    ],
    ids=str,
)
def test_whatever_changes_vectors_changes_the_fingerprint(change: dict[str, object]) -> None:
    changed = ArtifactManifest.model_validate({**MINILM_L6.model_dump(), **change})
    assert changed.fingerprint() != MINILM_L6.fingerprint()
    assert changed.fingerprint().digest != MINILM_L6.fingerprint().digest
    tokenizer_changed = bool(set(change) & {"vocabulary", "tokenizer", "max_seq_length"})
    assert (changed.tokenizer_hash != MINILM_L6.tokenizer_hash) == tokenizer_changed


def test_where_a_file_lies_is_no_part_of_the_space() -> None:
    moved = MINILM_L6.weights.model_copy(update={"source": "path", "location": "/x", "distribution": ""})
    same = MINILM_L6.model_copy(update={"weights": moved, "licence": "unknown"})
    assert same.fingerprint() == MINILM_L6.fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling": "none"}, "rank 2"),
        ({"output_rank": 2}, "rank 2"),
        ({"normalisation": "none"}, "unit vectors"),
        ({"inputs": ("attention_mask",)}, "input_ids"),
        ({"max_seq_length": 2}, "max_seq_length"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ArtifactManifest.model_validate({**MINILM_L6.model_dump(), **change})


def test_a_manifest_survives_json() -> None:
    assert ArtifactManifest.model_validate_json(MINILM_L6.model_dump_json()) == MINILM_L6
