"""Query side against index side: every part that shapes a vector is compared, and a change is seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embedcore.encoders.artifacts import ArtifactFile, ArtifactManifest
from embedcore.encoders.models import MINILM_L6, builtin_models, onnx_spec
from embedcore.errors import InvalidArgument
from embedcore.evaluation.parity import check_files, check_platform, parts_of
from embedcore.types import Consumer, Generation, ModelSpec


def generation(spec: ModelSpec, number: int = 1, **changes: Any) -> Generation:
    space = spec.fingerprint.model_copy(update=changes)
    return Generation(number=number, model=spec.name, fingerprint=space, state="serving", created_at=0.0)


def manifest_with(path: Path, text: str) -> ArtifactManifest:
    """A manifest whose vocabulary is a file at ``path`` with this text."""
    import hashlib

    path.write_text(text)
    vocabulary = ArtifactFile(
        source="path", location=str(path), sha256=hashlib.sha256(text.encode()).hexdigest()
    )
    return MINILM_L6.model_copy(update={"vocabulary": vocabulary})


def test_the_built_in_models_pass() -> None:
    spec = builtin_models()["minilm-l6"]
    pin = Consumer(name="ads", k=5, quality_target=0.9, tokenizer_pin=spec.fingerprint.tokenizer_hash)
    report = check_platform([generation(spec)], [spec], [pin])
    assert report.equal
    assert [row.part for row in report.rows] == ["tokenizer_hash", "fingerprint", "tokenizer pin"]


def test_a_vocabulary_that_changed_on_this_machine_is_seen(tmp_path: Path) -> None:
    spec = onnx_spec("mine", manifest_with(tmp_path / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nold\n"))
    assert check_platform([generation(spec)], [spec], []).equal
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\nnew\n")
    report = check_platform([generation(spec)], [spec], [])
    assert [row.part for row in report.rows if not row.equal] == ["tokenizer_hash"]
    (tmp_path / "vocab.txt").unlink()
    gone = check_platform([generation(spec)], [spec], [])
    assert not gone.equal
    assert "unknown" in gone.rows[0].query


def test_other_generations_pins_and_unknown_models_differ() -> None:
    spec = builtin_models()["minilm-l6"]
    other = generation(spec, tokenizer_hash="0" * 64)
    assert {row.part for row in check_platform([other], [spec], []).rows if not row.equal} == {
        "tokenizer_hash",
        "fingerprint",
    }
    pinned = Consumer(name="ads", k=5, quality_target=0.9, tokenizer_pin="1" * 64)
    report = check_platform([generation(spec)], [spec], [pinned])
    assert [row.where for row in report.rows if not row.equal] == ["consumer ads, generation 1"]
    assert not check_platform([generation(spec)], [], []).equal
    retired = generation(spec, tokenizer_hash="0" * 64).model_copy(update={"state": "retired"})
    assert check_platform([retired], [spec], []).equal


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"tokenizer": {"lowercase": False}}, "normaliser"),
        ({"tokenizer": {"wordpieces_prefix": "@@"}}, "tokenizer"),
        ({"max_seq_length": 64}, "max_seq_length"),
        ({"pooling": "cls"}, "pooling"),
        ({"normalise": False}, "normalise"),
        ({"vocabulary": {"sha256": "0" * 64}}, "vocabulary"),
    ],
)
def test_every_part_is_compared(tmp_path: Path, change: dict[str, Any], part: str) -> None:
    body = MINILM_L6.model_dump(mode="json")
    (tmp_path / "index.json").write_text(json.dumps(body))
    for name, value in change.items():
        body[name] = {**body[name], **value} if isinstance(value, dict) else value
    (tmp_path / "query.json").write_text(json.dumps(body))
    report = check_files(tmp_path / "query.json", tmp_path / "index.json")
    assert part in {row.part for row in report.rows if not row.equal}
    assert check_files(tmp_path / "index.json", tmp_path / "index.json").equal


def test_files_of_several_kinds(tmp_path: Path) -> None:
    manifest = manifest_with(tmp_path / "vocab.txt", "a\nb\n")
    spec = onnx_spec("mine", manifest)
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    assert check_files(tmp_path / "spec.json", tmp_path / "manifest.json").equal
    assert check_files(tmp_path / "vocab.txt", tmp_path / "manifest.json").equal
    (tmp_path / "vocab.txt").write_text("a\nc\n")
    assert not check_files(tmp_path / "vocab.txt", tmp_path / "manifest.json").equal
    (tmp_path / "tokenizer.json").write_text(manifest.tokenizer.model_dump_json())
    assert check_files(tmp_path / "tokenizer.json", tmp_path / "spec.json").equal
    with pytest.raises(InvalidArgument, match="no part in common"):
        check_files(tmp_path / "vocab.txt", tmp_path / "tokenizer.json")
    for name, text in (("a.json", "{"), ("b.json", "{}"), ("c.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidArgument, match=name):
            check_files(tmp_path / name, tmp_path / "spec.json")
    with pytest.raises(InvalidArgument, match="cannot be read"):
        check_files(tmp_path / "none.json", tmp_path / "spec.json")


def test_the_hash_of_all_is_that_of_the_fingerprint() -> None:
    assert parts_of(MINILM_L6)["tokenizer_hash"] == MINILM_L6.fingerprint().tokenizer_hash
