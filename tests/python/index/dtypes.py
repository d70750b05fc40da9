"""The dtypes and kinds of codes that tests go through, what each keeps, and the recall it has to reach."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore

from .vectors import clustered, recall, text

METRICS = ["cosine", "ip", "l2"]
KINDS = [
    (dtype, codes)
    for dtype in ("float32", "float16", "bfloat16", "int8")
    for codes in ("none", "int8", "int4")
    if not (dtype == "int8" and codes == "int8")  # is none
]
FEW_KINDS = [("float32", "int8"), ("float32", "int4"), ("int8", "none"), ("int8", "int4")]
kinds = pytest.mark.parametrize(("dtype", "codes"), KINDS, ids=["-".join(kind) for kind in KINDS])
few_kinds = pytest.mark.parametrize(("dtype", "codes"), FEW_KINDS, ids=["-".join(k) for k in FEW_KINDS])
metrics = pytest.mark.parametrize("metric", METRICS)


@functools.cache
def text_index(metric: str, dtype: str, codes: str) -> embedcore.Index:
    """Of the first 3,900 text vectors. Not to be written to."""
    index = embedcore.Index(384, metric, dtype, codes, ef_construction=80)
    index.add(np.arange(3900), text()[:3900])
    return index


def kept(vectors: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """The vectors rounded to the dtype, by numpy or by hand."""
    if dtype == "float32":
        return vectors
    if dtype == "float16":
        return vectors.astype(np.float16).astype(np.float32)
    if dtype == "bfloat16":
        bits = vectors.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    step = np.abs(vectors).max(axis=1, keepdims=True).astype(np.float64) / 127
    step[step == 0] = 1
    return (np.round(vectors / step) * step).astype(np.float32)


def distances_of(metric: str, queries: NDArray[Any], base: NDArray[Any]) -> NDArray[np.float64]:
    """(q, n), in double."""
    a, b = np.atleast_2d(queries).astype(np.float64), base.astype(np.float64)
    if metric == "l2":
        return ((a[:, None] - b[None]) ** 2).sum(axis=2)
    if metric == "cosine":
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        b /= np.linalg.norm(b, axis=1, keepdims=True)
    return 1 - a @ b.T


def spread_out(n: int, dim: int, seed: int, metric: str = "l2") -> NDArray[np.float32]:
    vectors = clustered(n, dim, 30, seed)
    if metric == "ip":  # which is made for vectors of about one length
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def recall_at_10(
    index: embedcore.Index, base: NDArray[Any], queries: NDArray[Any], ef: int = 100, ids: Any = None
) -> float:
    truth = embedcore.exact_search(base, queries, 10, index.metric).ids
    if ids is not None:
        truth = np.asarray(ids)[truth]
    return recall(index.search(queries, 10, ef_search=ef).ids, truth)


def least(codes: str, fine: float = 0.95, coarse: float = 0.9) -> float:
    """The recall to reach. Codes of 4 bits over few dimensions are coarse (codes="auto" takes them from 384
    on), and the tests ask for them by name."""
    return coarse if codes == "int4" else fine
