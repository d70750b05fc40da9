"""The nouns of embedcore that every layer shares. Durable documents are frozen pydantic models.

Writes, answers and tokens, which pass through the hot path, are plain dataclasses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Vector = NDArray[np.float32]
Vectors = NDArray[np.float32]
AttributeValue = str | int | float | bool
Attributes = Mapping[str, AttributeValue]
# Shard -> sequence number: what a write returns and what a search waits for.
SequenceToken = Mapping[int, int]


class Document(BaseModel):
    """Base of everything that is stored as JSON: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As ever, and without what a ``cached_property`` keeps: that was of the original."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(copied).model_fields.keys():
            del copied.__dict__[name]
        return copied


class Fingerprint(Document):
    """Identity of a vector space. Two vectors may be compared only when their fingerprints are equal."""

    model: str
    revision: str
    dimension: int = Field(ge=1, le=65_535)
    metric: Literal["cosine", "ip", "l2"] = "cosine"
    normalisation: Literal["l2", "none"] = "l2"
    tokenizer_hash: str = ""  # sha256 of vocabulary + preprocessing configuration
    dtype: str = "float32"

    @cached_property
    def digest(self) -> str:
        """``ec1-`` and 32 hexadecimal digits: what travels on the wire and in file headers."""
        canonical = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return "ec1-" + hashlib.sha256(canonical.encode()).hexdigest()[:32]


class ModelSpec(Document):
    """How to make vectors of one space; enough to load the encoder again after a restart.

    backend ``onnx``: options name the artifact (see embedcore.encoders.artifacts); ``callable``: options
    ``{"target": "package.module:function"}`` or nothing when registered in this process only;
    ``external``: no encoder here, vectors come with the items and with the queries.
    """

    name: str
    backend: Literal["onnx", "callable", "external"]
    fingerprint: Fingerprint
    options: dict[str, Any] = Field(default_factory=dict)


class Generation(Document):
    """One model version with the indexes built from it.

    ``serving``: live and read; ``filling``: live, the target of a migration; ``retired``: no writes.
    """

    number: int = Field(ge=1)
    model: str
    fingerprint: Fingerprint
    state: Literal["serving", "filling", "retired"]
    shards: int = 1
    created_at: float

    @property
    def live(self) -> bool:
        return self.state != "retired"


class Consumer(Document):
    """One reader of the index with targets of its own. SPEC section 1 names the four defaults."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    metric: Literal["cosine"] = "cosine"
    k: int = Field(ge=1, le=10_000)
    quality: Literal["recall", "precision"] = "recall"  # recall@k, or precision@1 above a threshold
    quality_target: float = Field(ge=0, le=1)
    latency_objective_ms: float | None = Field(default=50.0, gt=0)  # p95; None: asynchronous batch
    ranking_budget_ms: float | None = None
    ef_search: int = Field(default=64, ge=1, le=100_000)
    ef_by_generation: dict[int, int] = Field(default_factory=dict)  # calibrated; wins over ef_search
    index_recall: float = Field(default=0.95, gt=0, le=1)
    min_found_share: float | None = Field(default=None, gt=0, le=1)  # precision consumers
    engagement: Literal["click_through", "session_depth", "click_success", "agreement"] = "click_success"
    engagement_margin: float = Field(default=0.02, ge=0)
    engagement_min_count: int = Field(default=1_000, ge=1)  # per arm; below it there is no evidence
    tokenizer_pin: str | None = None
    replicas: int = Field(default=1, ge=1)
    alert_thresholds: dict[str, float] = Field(default_factory=dict)
    owner: str = "unowned"
    query_log: int = Field(default=0, ge=0, le=100_000)  # distinct texts kept for labelling; 0: none

    def ef_for(self, generation: int) -> int:
        """The search breadth on this generation's indexes."""
        return self.ef_by_generation.get(generation, self.ef_search)


DEFAULT_CONSUMERS: tuple[Consumer, ...] = (
    Consumer(name="search", k=10, quality_target=0.85, ef_search=100, engagement="click_success"),
    Consumer(
        name="recsys",
        k=50,
        quality_target=0.75,
        ef_search=64,
        engagement="session_depth",
        engagement_margin=0.05,
    ),
    Consumer(
        name="ads",
        k=5,
        quality_target=0.90,
        latency_objective_ms=30.0,
        ef_search=128,
        engagement="click_through",
        engagement_margin=0.005,
        engagement_min_count=10_000,
    ),
    Consumer(
        name="dedup",
        k=1,
        quality="precision",
        quality_target=0.95,
        latency_objective_ms=None,
        ef_search=128,
        min_found_share=0.90,
        engagement="agreement",
        engagement_margin=0.10,
        engagement_min_count=100,
    ),
)


@dataclass(frozen=True, slots=True)
class Item:
    """An item as a caller hands it in.

    Content (text) to be embedded by every live generation's encoder, or vectors by fingerprint digest, or
    both (given vectors win). ``created_at`` defaults to now on first write and is kept on updates.
    """

    id: str
    content: str | None = None
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    attributes: Attributes = field(default_factory=dict)
    namespace: str = ""
    created_at: float | None = None


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as the store holds it. ``held``: generation number -> version of the vector it holds."""

    id: str
    namespace: str
    item: int  # dense number, the id inside indexes
    shard: int
    version: int
    created_at: float
    updated_at: float
    content: str | None
    attributes: Attributes
    deleted: bool
    held: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """What an acknowledged write returns: durable when the caller sees it."""

    token: SequenceToken
    versions: Sequence[int]  # per item, in call order; 0 for a delete of an unknown id
    repairs: int = 0  # vectors that could not be made and wait as durable repair entries


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One query of one consumer. Text, or vectors by fingerprint digest (one per generation routed to)."""

    consumer: str
    text: str | None = None
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    k: int | None = None  # default: the consumer's
    namespace: str = ""
    filter: Attributes = field(default_factory=dict)  # all must be equal
    min_sequence: SequenceToken = field(default_factory=dict)
    user_key: str = ""  # canary split; empty is always control
    deadline_s: float | None = None  # relative


@dataclass(frozen=True, slots=True)
class Hit:
    id: str
    score: float  # larger is nearer: 1 - distance for cosine and ip, -distance for l2
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which generations answered, how they were mixed, and whether anything is missing."""

    generations: Sequence[int]
    models: Sequence[str]
    fingerprints: Sequence[str]
    weight: float
    arm: Literal["control", "canary"]
    table_version: int
    shards_asked: int
    shards_answered: int
    partial: bool


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    hits: Sequence[Hit]
    provenance: Provenance
    took_ms: float
