"""What an evaluation is: one consumer's metric on one generation (or blend), with its per-query values."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import DataLoss, InvalidArgument
from embedcore.evaluation.interface import Bools, Ints
from embedcore.evaluation.metrics import PerQuery
from embedcore.evaluation.resolve import BUCKETS, TAIL
from embedcore.evaluation.significance import Comparison, finite, interval
from embedcore.migration_types import GateResult

SCHEMA = 2


class Share(NamedTuple):
    """A metric over some of the queries: its value, 95% interval and how many queries."""

    value: float
    lower: float
    upper: float
    n: int

    @classmethod
    def of(cls, values: PerQuery) -> Share:
        """nan where there is no query with weight."""
        return cls(values.value if len(values) else float("nan"), *interval(values), len(values))

    def to_document(self) -> dict[str, Any]:
        return {name: finite(value) for name, value in self._asdict().items()}


@dataclass(frozen=True)
class Evaluation:
    """One consumer's metric against its labels. ``metric`` and the shares are in 0..1, nan when undefined.

    ``values`` row i belongs to golden query ``rows[i]``; a precision consumer reports on the odd-numbered
    queries alone. ``index_recall`` is recall against exact search: the index's quality, not the model's.
    """

    consumer: str
    metric_name: str  # "recall@10", "precision@1"
    k: int
    generation: int | None  # None: blended, or a sample of the pre-flight
    model: str
    weight: float | None  # of a blended evaluation
    golden: str
    golden_digest: str
    public: bool
    at: float
    seed: int
    queries: int  # golden queries asked for
    left_out: int  # of these, without a live relevant item (in the sample)
    metric: float
    lower: float  # 95% interval of the metric
    upper: float
    long_tail: float
    long_tail_n: int
    rows: Ints
    values: PerQuery
    bucket: Ints  # (n,) head 0, torso 1, tail 2
    own_buckets: dict[str, Bools] = field(default_factory=dict)  # masks (n,) of buckets the set names itself
    threshold: float | None = None  # precision consumers: accepted at or below; inf accepts all
    threshold_reached: bool | None = None  # the stated share of duplicates is found at it
    found_share: float | None = None  # on the reported half
    measures: dict[str, float] = field(default_factory=dict)  # "nDCG@10", "RR@10", "R@10": means over rows
    index_recall: float | None = None
    index_recall_lower: float | None = None  # 95% interval
    index_recall_upper: float | None = None
    index_recall_n: int = 0  # queries that exact search was asked

    @property
    def n(self) -> int:
        return len(self.rows)

    @property
    def tail(self) -> Bools:
        """(n,) rows that are in the long-tail bucket."""
        mask: Bools = self.bucket == TAIL
        return mask

    @property
    def masks(self) -> dict[str, Bools]:
        """Bucket -> its rows (n,): head, torso, tail, then those that the golden set names itself."""
        return {name: self.bucket == code for code, name in enumerate(BUCKETS)} | self.own_buckets

    @property
    def buckets(self) -> dict[str, Share]:
        return {name: Share.of(self.values.take(mask)) for name, mask in self.masks.items()}

    def to_document(self, arrays: bool = True) -> dict[str, Any]:
        """JSON-serialisable; ``arrays``: with the per-query values, some 5 KB for 4,000 queries."""
        document: dict[str, Any] = {
            name: finite(getattr(self, name)) for name in self.__dataclass_fields__ if name not in _ARRAYS
        }
        document |= {"schema": SCHEMA, "n": self.n, "accept_all": self.threshold == float("inf")}
        document["measures"] = {name: finite(value) for name, value in self.measures.items()}
        document["buckets"] = {name: share.to_document() for name, share in self.buckets.items()}
        if arrays:
            document["per_query"] = {
                "rows": _pack(self.rows, "<i4"),
                "num": _pack(self.values.num, "<f8"),
                "den": _pack(self.values.den, "<f8"),
                "bucket": _pack(self.bucket, "|u1"),
                "own_buckets": {name: _pack(mask, "|u1") for name, mask in self.own_buckets.items()},
            }
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Evaluation:
        """Reads a document that carries its arrays; InvalidArgument when it does not."""
        packed = document.get("per_query")
        if packed is None or document.get("schema") != SCHEMA:
            raise InvalidArgument(
                f"expected an evaluation of schema {SCHEMA} with per-query values, "
                f"got schema {document.get('schema')} {'without' if packed is None else 'with'} them"
            )
        fields = {name: document[name] for name in cls.__dataclass_fields__ if name not in _ARRAYS}
        for name in ("metric", "lower", "upper", "long_tail"):
            fields[name] = float("nan") if fields[name] is None else fields[name]
        if document["accept_all"]:
            fields["threshold"] = float("inf")
        return cls(
            rows=_unpack(packed["rows"], "<i4").astype(np.int64),
            values=PerQuery(_unpack(packed["num"], "<f8"), _unpack(packed["den"], "<f8")),
            bucket=_unpack(packed["bucket"], "|u1").astype(np.int64),
            own_buckets={
                name: _unpack(mask, "|u1").astype(np.bool_) for name, mask in packed["own_buckets"].items()
            },
            **fields,
        )


_ARRAYS = frozenset({"rows", "values", "bucket", "own_buckets"})


@dataclass(frozen=True)
class Freshness:
    """Which items a comparison at equal freshness was over: those that both generations hold, of ``live``.
    ``queries_left_out``: without a relevant item among them."""

    live: int
    both: int
    source_lacks: int
    target_lacks: int
    queries_left_out: int


@dataclass(frozen=True)
class Compared:
    """A paired comparison of one consumer's metric on two generations (or a blend and its source).

    ``freshness`` None: both as they stand, where an item that is missing is a miss. Otherwise the *models*
    are compared, on the items that both hold.
    """

    source: Evaluation
    target: Evaluation
    comparison: Comparison
    gates: dict[str, GateResult]
    freshness: Freshness | None = None

    @property
    def passed(self) -> bool:
        """Every gate is met."""
        return bool(self.gates) and all(gate.passed for gate in self.gates.values())

    def to_document(self, arrays: bool = True) -> dict[str, Any]:
        return {
            "source": self.source.to_document(arrays),
            "target": self.target.to_document(arrays),
            "comparison": self.comparison.to_document(),
            "gates": {name: gate.model_dump() for name, gate in self.gates.items()},
            "passed": self.passed,
            "freshness": None if self.freshness is None else asdict(self.freshness),
        }


def paired(source: Evaluation, target: Evaluation) -> tuple[PerQuery, PerQuery]:
    """The per-query values of two evaluations of the same queries; InvalidArgument when they differ."""
    same_set = (source.consumer, source.golden_digest) == (target.consumer, target.golden_digest)
    if not same_set or not np.array_equal(source.rows, target.rows):
        raise InvalidArgument(
            f"evaluations of {source.consumer!r} ({source.golden_digest}, {source.n} queries) and "
            f"{target.consumer!r} ({target.golden_digest}, {target.n} queries) are not over the same "
            "queries; evaluate both in one comparison"
        )
    return source.values, target.values


def _pack(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(zlib.compress(values.astype(dtype).tobytes())).decode("ascii")


def _unpack(packed: str, dtype: str) -> NDArray[Any]:
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(packed, validate=True)), dtype=dtype)
    except (ValueError, zlib.error) as error:
        raise DataLoss(f"per-query values of an evaluation are damaged ({error}); evaluate again") from error
