"""What callers of hnswlib give, in the form that the index takes; refused as hnswlib refuses it.

TypeErrors stand for hnswlib's "incompatible function arguments", RuntimeErrors carry its texts.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore.errors import InvalidArgument
from embedcore.index import IdSet, Metric

Filter = Callable[[int], bool] | IdSet

METRICS: Final[dict[str, Metric]] = {"l2": "l2", "ip": "ip", "cosine": "ip"}
"""Cosine is the inner product of normalised vectors, as in hnswlib: so zero vectors have a distance."""

MOST_THREADS: Final = 65535
TOO_FEW: Final = "Cannot return the results in a contiguous 2D array. Probably ef or M is too small"
TOO_MANY: Final = "The number of elements exceeds the specified limit"
TWICE: Final = "The index is already initiated."
NOT_YET: Final = "The index is not initiated: call init_index or load_index first"
LOADED_OVER: Final = "Calling load_index for an already inited index. Old index is being deallocated."

_LEAST_SQUARED, _MOST_SQUARED = 1e-20, 1e30
_MOST_DIM: Final = 65535
_MOST_LABEL: Final = 2**63 - 1
_U64_MAX: Final = 2**64 - 1


class Refused(InvalidArgument, RuntimeError):
    """What hnswlib would take, or would crash on, and embedcore refuses. Nothing has changed."""


def space_of(space: object, dim: object) -> tuple[str, int]:
    if not isinstance(space, str):
        raise TypeError(f"space is {space!r}; use 'l2', 'ip' or 'cosine'")
    number = operator.index(dim)  # type: ignore[arg-type]
    if space not in METRICS:
        raise RuntimeError("Space name must be one of l2, ip, or cosine.")
    if not 1 <= number <= _MOST_DIM:
        raise Refused(f"dim is {number}; it must be 1 to {_MOST_DIM}")
    return space, number


def size_of(value: object, name: str) -> int:
    """A whole number of 64 bits without sign."""
    number = operator.index(value)  # type: ignore[arg-type]
    if not 0 <= number <= _U64_MAX:
        raise TypeError(f"{name} is {number}; it must be 0 to 2^64-1")
    return number


def label_of(value: object) -> int:
    number = size_of(value, "label")
    if number > _MOST_LABEL:
        raise Refused(f"label {number} is too large; labels are 0 to 2^63-1")
    return number


def path_of(path: str | bytes | os.PathLike[str]) -> str:
    return os.fsdecode(path)


def flag_of(value: object, name: str) -> bool:
    """Of what hnswlib takes for True or False: None and whatever defines its truth by ``__bool__``."""
    if value is not None and not hasattr(value, "__bool__"):
        raise TypeError(f"{name} is {value!r}; give True or False")
    return bool(value)


def thread_count(value: object) -> int:
    """A whole number of 32 bits, as hnswlib takes it."""
    number = operator.index(value)  # type: ignore[arg-type]
    if not -(2**31) <= number < 2**31:
        raise TypeError(f"num_threads is {number}; it must be -2^31 to 2^31-1")
    return number


def vectors_of(data: ArrayLike, dim: int) -> NDArray[np.float32]:
    """(n, dim) float32 C-contiguous, in place where it is that already; one row for data of shape (dim,)."""
    if isinstance(data, np.ndarray) and data.dtype == np.float32:
        array = np.asarray(data, order="C")
    else:
        with np.errstate(over="ignore"):  # an overflow becomes inf, which the index refuses by name
            array = np.asarray(data, dtype=np.float32, order="C")
    if array.ndim == 1:
        array = array.reshape(1, -1)
    elif array.ndim != 2:
        raise RuntimeError(
            f"Input vector data wrong shape. Number of dimensions {array.ndim}. "
            "Data must be a 1D or 2D array."
        )
    if array.shape[1] != dim:
        raise RuntimeError(f"Wrong dimensionality of the vectors: {array.shape[1]}, expected {dim}")
    return array


def normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; zero stays zero."""
    if len(rows) == 1:  # a query: this takes a microsecond, the rest ten
        squared_length = float(rows[0].dot(rows[0]))
        if _LEAST_SQUARED < squared_length < _MOST_SQUARED:  # else float32 is not up to it
            return rows / np.float32(math.sqrt(squared_length))
    with np.errstate(over="ignore", invalid="ignore"):  # the index refuses what comes of inf and NaN
        squared = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        lengths = (np.sqrt(squared) + 1e-30).astype(np.float32)
        unit: NDArray[np.float32] = rows / lengths[:, None]
    return unit


def labels_of(ids: ArrayLike) -> NDArray[np.int64]:
    """Labels of any shape as int64. Fractions are cut off, as hnswlib does."""
    array: NDArray[Any] = np.asarray(ids)
    if array.size == 0:
        return np.empty(array.shape, dtype=np.int64)
    if array.dtype.kind not in "iubf":
        array = np.asarray(ids, dtype=np.uint64)  # numpy's own errors, which are what hnswlib lets through
    # As Python numbers, which compare exactly: in float64, 2^63-1 is 2^63.
    low, high = array.min().item(), array.max().item()
    if not (low > -1 and high < 2**63):
        raise Refused(f"label {high if low > -1 else low} is out of range; labels are 0 to 2^63-1")
    return array.astype(np.int64)


def labels_for(ids: ArrayLike, rows: int) -> NDArray[np.int64]:
    """One label per row: (n,), or a scalar for one row."""
    labels = labels_of(ids)
    if not (labels.shape == (rows,) or (labels.ndim == 0 and rows == 1)):
        raise RuntimeError(
            f"The input label shape {labels.shape} does not match the input data vector shape {rows}"
        )
    return labels.reshape(rows)


def last_of_each(
    labels: NDArray[np.int64], rows: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Without the earlier rows of a label that comes twice."""
    if len(labels) < 2:
        return labels, rows
    unique, from_end = np.unique(labels[::-1], return_index=True)
    if len(unique) == len(labels):
        return labels, rows
    keep = np.sort(len(labels) - 1 - from_end)
    return labels[keep], rows[keep]


def filter_of(given: object) -> Filter | None:
    if given is None or isinstance(given, IdSet) or callable(given):
        return given
    raise TypeError(f"filter is {given!r}; give a callable label -> bool, an IdSet or None")


def threads_for(asked: int, default: int, rows: int) -> int:
    """hnswlib's choice: one thread for a few rows; 0 stands for all cores."""
    threads = thread_count(asked)
    if threads <= 0:
        threads = default
    if threads > 0 and rows <= 4 * threads:
        return 1
    return min(max(threads, 0), MOST_THREADS)
