"""The gate that every vector passes before it may be stored or searched: a batch is taken whole or refused.

One vector that is not finite or lost its normalisation says that the batch's encoder is broken; storing the
others would be silent corruption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcore.encoders.interface import Encoder
from embedcore.errors import DataLoss, EmbedcoreError
from embedcore.types import Fingerprint, Vectors

# How far the norm of a unit vector may lie from 1, by the dtype its components went through. Rounding to
# nearest moves a component, and so the norm, by at most 2^-11 of itself for float16 and 2^-8 for bfloat16;
# int8 by half a step, about 1.2% in 384 dimensions. float32 leaves room for norms summed naively.
NORM_TOLERANCE: Mapping[str, float] = {"float32": 1e-4, "float16": 1e-3, "bfloat16": 8e-3, "int8": 2e-2}


@dataclass(frozen=True, slots=True)
class VectorProblem:
    """The first reason to refuse a batch. ``row``: the worst one, -1 where the whole array is meant."""

    reason: str
    row: int
    details: Mapping[str, Any]


def problem_of(
    vectors: NDArray[Any], fingerprint: Fingerprint, rows: int | None = None
) -> VectorProblem | None:
    """Why an array is no batch of this vector space, or None. ``rows``: how many vectors there must be."""
    dimension = fingerprint.dimension
    if vectors.ndim != 2 or vectors.shape[1] != dimension or (rows is not None and len(vectors) != rows):
        expected = [len(vectors) if rows is None and vectors.ndim else rows, dimension]
        details = {"shape": list(vectors.shape), "expected": expected}
        return VectorProblem(
            f"shape {tuple(vectors.shape)} where ({expected[0]}, {dimension}) is expected", -1, details
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        bad = int(len(vectors) - np.count_nonzero(finite))
        return VectorProblem(f"row {row} is not finite ({bad} such rows)", row, {"row": row, "rows": bad})
    if fingerprint.normalisation == "l2" and len(vectors):
        # Summed in double: a large float32 row must show its norm, not overflow.
        off = np.abs(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)) - 1.0)
        row = int(np.argmax(off))
        tolerance = NORM_TOLERANCE.get(fingerprint.dtype, NORM_TOLERANCE["float32"])
        if off[row] > tolerance:
            bad = int(np.count_nonzero(off > tolerance))
            return VectorProblem(
                f"row {row} has a norm off 1 by {off[row]:.4g}, more than {tolerance:g} allowed for"
                f" {fingerprint.dtype} ({bad} such rows), though the fingerprint says l2",
                row,
                {"row": row, "max_deviation": float(off[row]), "tolerance": tolerance, "rows": bad},
            )
    return None


def check_vectors(
    vectors: NDArray[Any],
    fingerprint: Fingerprint,
    rows: int | None = None,
    *,
    error: type[EmbedcoreError] = DataLoss,
    source: str = "",
) -> None:
    """Raises ``error`` with the evidence in ``details``: DataLoss for an encoder's output; pass
    InvalidArgument for what a client gave."""
    problem = problem_of(vectors, fingerprint, rows)
    if problem is not None:
        what = source or f"encoder {fingerprint.model!r} ({fingerprint.revision})"
        raise error(
            f"vectors of {what} refused: {problem.reason}; nothing of the batch was used, fix the encoder"
            if error is DataLoss
            else f"vectors of {what} refused: {problem.reason}; correct them and send the batch again",
            {"fingerprint": fingerprint.digest, **problem.details},
        )


class CheckedEncoder:
    """An encoder whose output is checked against its fingerprint. As thread safe as the encoder inside."""

    def __init__(self, inner: Encoder) -> None:
        self._inner = inner
        self._fingerprint = inner.fingerprint

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As the encoder inside; DataLoss (details: row, max_deviation, ...) when its batch is refused."""
        vectors = self._inner.encode(texts)
        check_vectors(vectors, self._fingerprint, len(texts))
        return vectors
