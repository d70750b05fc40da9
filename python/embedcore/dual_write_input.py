"""What callers give a DualWriter, checked and brought into the form that the native core takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore.errors import InvalidArgument
from embedcore.index import Index
from embedcore.index_input import array_of, number, one_of, rows_of, whole

_METRICS: Final = ("cosine", "ip", "l2")
_UPSERT, _MISSING, _REMOVE = range(3)  # in the order of the native enumeration
_U32_MAX: Final = 2**32 - 1


class Write(NamedTuple):
    """One write of the source of record. ``vector`` (dim,), or None: removed, or no vector yet."""

    sequence: int
    id: int
    vector: ArrayLike | None = None
    removed: bool = False


class Target(Protocol):
    """What a lane can write to beside :class:`embedcore.Index`. An exception goes on the failure record.

    ``metric`` is optional ("l2"): what incoming vectors are checked for.
    """

    @property
    def dim(self) -> int: ...
    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], /) -> object: ...
    def remove(self, ids: NDArray[np.int64], /) -> object: ...


# Up to `limit` writes from a sequence number on, in ascending order; none: there are none yet.
Source = Callable[[int, int], Iterable[Write]]


def lane_of(value: object) -> int:
    return whole(value, "lane", 0, _U32_MAX)


def seconds_of(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    seconds = number(timeout, "timeout")
    if seconds < 0:
        raise InvalidArgument(f"timeout is {timeout}; give seconds from 0 on, or None to wait")
    return None if math.isinf(seconds) else seconds


def sequences_of(given: ArrayLike) -> NDArray[np.uint64]:
    array = array_of(given, "sequences")
    if array.size == 0:
        return np.empty(0, dtype=np.uint64)
    if array.dtype.kind not in "iu" or array.ndim > 1:
        raise InvalidArgument(f"sequences are {array.dtype} {array.shape}; give whole numbers (n,)")
    if int(array.min()) < 1:
        raise InvalidArgument(f"sequence {int(array.min())} is too small; they count from 1")
    return np.require(array, np.uint64, ("C", "ALIGNED")).reshape(-1)


def dim_of(index: Index | Target) -> int:
    return whole(index.dim, "dim of the index", 1, 65535)


def target_of(index: Index | Target) -> tuple[Any, int, int]:
    """The native index, or the object itself, with its dimension and metric."""
    if isinstance(index, Index):
        return index.native, index.dim, one_of(index.metric, "metric", _METRICS)
    if not all(hasattr(index, name) for name in ("add", "remove", "dim")):
        kind = type(index).__name__
        raise InvalidArgument(f"{kind} is no index; give an embedcore.Index, or what has add, remove and dim")
    return index, dim_of(index), one_of(getattr(index, "metric", "l2"), "metric", _METRICS)


def source_of(source: Source | None, index: Index | Target) -> Callable[[int, int], tuple[Any, ...]] | None:
    """The source in the form that the native core takes: arrays."""
    if source is None:
        return None
    if not callable(source):
        raise InvalidArgument(f"source is {source!r}; give a function of (from_sequence, limit)")
    dim = dim_of(index)

    def arrays(from_sequence: int, limit: int) -> tuple[Any, ...]:
        writes = list(source(from_sequence, limit))
        kinds = [
            _REMOVE if write.removed else _MISSING if write.vector is None else _UPSERT for write in writes
        ]
        rows = np.empty((kinds.count(_UPSERT), dim), dtype=np.float32)
        vectors = (write.vector for write, kind in zip(writes, kinds, strict=True) if kind == _UPSERT)
        for row, vector in zip(rows, vectors, strict=True):
            row[:] = rows_of(vector, dim, "the source's vector")[0] if vector is not None else 0
        return (
            np.array([write.sequence for write in writes], dtype=np.uint64),
            np.array([write.id for write in writes], dtype=np.int64),
            np.array(kinds, dtype=np.uint8),
            rows,
        )

    return arrays
