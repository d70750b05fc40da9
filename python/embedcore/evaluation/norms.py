"""The gate on a model's output itself: finite, and of unit norm where its fingerprint says so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcore.migration_types import GateResult

NORM_TOLERANCE = 1e-3  # float32 unit vectors


def norms_gate(
    vectors: NDArray[np.floating[Any]],
    *,
    at: float,
    unit: bool = True,
    dimension: int | None = None,
    tolerance: float = NORM_TOLERANCE,
) -> GateResult:
    """Vectors (n, dim) are finite and, where the fingerprint says l2 (``unit``), of norm 1 within the
    tolerance: 1e-3 for float32, more for narrower dtypes."""
    evidence: dict[str, Any] = {"vectors": len(vectors), "tolerance": tolerance, "unit": unit}
    if len(vectors) == 0:
        return _result(False, "norms: no evidence: no vectors", evidence, at)
    if vectors.ndim != 2 or (dimension is not None and vectors.shape[1] != dimension):
        summary = f"norms: expected vectors (n, {dimension or 'dim'}), got shape {vectors.shape}"
        return _result(False, summary, evidence, at)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if broken.size:
        evidence |= {"not_finite": int(broken.size), "first_row": int(broken[0])}
        summary = f"norms: {broken.size} of {len(vectors)} vectors are not finite (first: row {broken[0]})"
        return _result(False, summary, evidence, at)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    off = np.abs(norms - 1)
    worst = int(np.argmax(off))
    bad = int(np.sum(off > tolerance)) if unit else int(np.sum(norms == 0))
    evidence |= {
        "min_norm": float(norms.min()),
        "max_norm": float(norms.max()),
        "mean_norm": float(norms.mean()),
        "off": bad,
    }
    if bad:
        summary = (
            f"norms: {bad} of {len(vectors)} vectors are off {'unit norm' if unit else 'being non-zero'}"
            f" (worst: row {worst}, norm {norms[worst]:.4f}); the model does not normalise its output"
        )
        return _result(False, summary, evidence, at)
    summary = f"norms: {len(vectors)} vectors finite" + (f", within {off[worst]:.1e} of 1" if unit else "")
    return _result(True, summary, evidence, at)


def _result(passed: bool, summary: str, evidence: dict[str, Any], at: float) -> GateResult:
    return GateResult(gate="norms", passed=passed, summary=summary, evidence=evidence, at=at)
