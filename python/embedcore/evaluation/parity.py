"""Do queries and items pass through the same preprocessing? Hashes of both sides, part by part.

The index side is what the generation's fingerprint says its vectors were made with. The query side is what
this process would encode a query with now: vocabulary bytes as they lie on this machine, tokenizer
configuration (normaliser, pre-tokeniser), truncation, pooling and normalisation of the registered model.
A difference makes vectors that may be compared by dimension and must not be by meaning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from embedcore.encoders.artifacts import ArtifactManifest, TokenizerConfig, read_verified
from embedcore.errors import DataLoss, InvalidArgument, Unavailable
from embedcore.types import Consumer, Generation, ModelSpec

Parts = Mapping[str, str]  # part -> hash or value, in the order in which they act on a text
ABSENT = "-"


@dataclass(frozen=True)
class ParityRow:
    where: str  # "generation 2 (minilm-l6)", "consumer ads", or the names of two files
    part: str
    query: str
    index: str

    @property
    def equal(self) -> bool:
        return self.query == self.index


@dataclass(frozen=True)
class ParityReport:
    rows: tuple[ParityRow, ...]

    @property
    def equal(self) -> bool:
        return all(row.equal for row in self.rows)

    def to_document(self) -> dict[str, Any]:
        return {"equal": self.equal, "rows": [asdict(row) | {"equal": row.equal} for row in self.rows]}


def parts_of(manifest: ArtifactManifest, vocabulary: str | None = None) -> dict[str, str]:
    """Hashes and settings of everything between a text and its vector but the weights. ``vocabulary``: the
    sha256 that was found; default: the one that the manifest states."""
    found = vocabulary or manifest.vocabulary.sha256
    stated = manifest.model_copy(
        update={"vocabulary": manifest.vocabulary.model_copy(update={"sha256": found})}
    )
    tokenizer = manifest.tokenizer
    normaliser = {
        name: getattr(tokenizer, name)
        for name in ("lowercase", "strip_accents", "clean_text", "handle_chinese_chars")
    }
    return {
        "vocabulary": found,
        "normaliser": _hash(normaliser),
        "tokenizer": _hash(tokenizer.model_dump()),
        "max_seq_length": str(manifest.max_seq_length),
        "pooling": manifest.pooling,
        "normalise": str(manifest.normalise).lower(),
        "tokenizer_hash": stated.tokenizer_hash,
    }


def check_platform(
    generations: Iterable[Generation], models: Iterable[ModelSpec], consumers: Iterable[Consumer]
) -> ParityReport:
    """Every live generation against the model that its queries are encoded with here, and every consumer's
    tokenizer pin against the generations that serve."""
    specs = {spec.name: spec for spec in models}
    live = [generation for generation in generations if generation.live]
    rows: list[ParityRow] = []
    for generation in live:
        where = f"generation {generation.number} ({generation.model})"
        spec = specs.get(generation.model)
        made, query = generation.fingerprint, "not registered"
        if spec is not None:
            query = spec.fingerprint.digest
            rows += [ParityRow(where, "tokenizer_hash", _query_hash(spec), made.tokenizer_hash or ABSENT)]
        rows.append(ParityRow(where, "fingerprint", query, made.digest))
    for consumer in consumers:
        for generation in live if consumer.tokenizer_pin else ():
            if generation.state == "serving":
                rows.append(
                    ParityRow(
                        f"consumer {consumer.name}, generation {generation.number}",
                        "tokenizer pin",
                        consumer.tokenizer_pin or ABSENT,
                        generation.fingerprint.tokenizer_hash or ABSENT,
                    )
                )
    return ParityReport(tuple(rows))


def check_files(query: Path, index: Path) -> ParityReport:
    """Two sides as files: a model specification or artifact manifest (JSON), or a bare vocabulary (any other
    suffix). Only the parts that both sides state are compared; none in common is InvalidArgument."""
    one, other = side_of(query), side_of(index)
    shared = [part for part in one if part in other]
    if not shared:
        raise InvalidArgument(f"{query} and {index} state no part in common: give two of the same kind")
    where = f"{query.name} / {index.name}"
    return ParityReport(tuple(ParityRow(where, part, one[part], other[part]) for part in shared))


def side_of(path: Path) -> dict[str, str]:
    """The parts that a file states."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix != ".json":
        return {"vocabulary": hashlib.sha256(data).hexdigest()}
    try:
        body = json.loads(data)
        if isinstance(body, dict) and "backend" in body:
            spec = ModelSpec.model_validate(body)
            manifest = spec.options.get("manifest")
            if manifest is None:
                return {"tokenizer_hash": spec.fingerprint.tokenizer_hash or ABSENT}
            body = manifest
        if isinstance(body, dict) and "kind" in body:
            return {"tokenizer": _hash(TokenizerConfig.model_validate(body).model_dump())}
        return parts_of(ArtifactManifest.model_validate(body))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise InvalidArgument(f"{path}: neither a model specification nor a manifest ({where})") from error
    except ValueError as error:
        raise InvalidArgument(f"{path}: not JSON ({error})") from error


def _query_hash(spec: ModelSpec) -> str:
    """The tokenizer hash of the bytes that are really here; why there is none, in its place."""
    if spec.options.get("manifest") is None:
        return spec.fingerprint.tokenizer_hash or ABSENT
    manifest = ArtifactManifest.model_validate(spec.options["manifest"])
    try:
        vocabulary = hashlib.sha256(read_verified(manifest.vocabulary)).hexdigest()
    except DataLoss as error:
        found = error.details.get("found")
        if found is None:
            return f"unknown: {error.message}"
        vocabulary = str(found)
    except Unavailable as error:
        return f"unknown: {error.message}"
    return parts_of(manifest, vocabulary)["tokenizer_hash"]


def _hash(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
