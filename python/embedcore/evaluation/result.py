"""What an evaluation is: one consumer's metric on one generation (or blend), with its per-query values."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import DataLoss, InvalidArgument
from embedcore.evaluation.interface import Bools, Ints
from embedcore.evaluation.metrics import PerQuery
from embedcore.evaluation.significance import Comparison, finite
from embedcore.migration_types import GateResult

SCHEMA = 1


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
    tail: Bools  # (n,) rows that are in the long-tail bucket
    threshold: float | None = None  # precision consumers: accepted at or below; inf accepts all
    threshold_reached: bool | None = None  # the stated share of duplicates is found at it
    found_share: float | None = None  # on the reported half
    index_recall: float | None = None

    @property
    def n(self) -> int:
        return len(self.rows)

    def to_document(self, arrays: bool = True) -> dict[str, Any]:
        """JSON-serialisable; ``arrays``: with the per-query values, some 5 KB for 4,000 queries."""
        document: dict[str, Any] = {
            name: finite(getattr(self, name)) for name in self.__dataclass_fields__ if name not in _ARRAYS
        }
        document |= {"schema": SCHEMA, "n": self.n, "accept_all": self.threshold == float("inf")}
        if arrays:
            document["per_query"] = {
                "rows": _pack(self.rows, "<i4"),
                "num": _pack(self.values.num, "<f8"),
                "den": _pack(self.values.den, "<f8"),
                "tail": _pack(self.tail, "|u1"),
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
            tail=_unpack(packed["tail"], "|u1").astype(np.bool_),
            **fields,
        )


_ARRAYS = frozenset({"rows", "values", "tail"})


class Compared(NamedTuple):
    """A paired comparison: what ``Harness.compare`` returns, unpackable in this order."""

    source: Evaluation
    target: Evaluation
    comparison: Comparison
    gates: dict[str, GateResult]

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
