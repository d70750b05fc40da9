"""What callers give the index, checked and brought into the form that the native core takes."""

from __future__ import annotations

import operator
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore._native import IdSet
from embedcore.errors import InvalidArgument

Filter = NDArray[np.int64] | IdSet | Callable[[int], bool]


def whole(value: object, name: str, low: int, high: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidArgument(f"{name} is {value!r}; give a whole number") from None
    if not low <= number <= high:
        raise InvalidArgument(f"{name} is {number}; it must be {low} to {high}")
    return number


def rows_of(vectors: ArrayLike, dim: int, name: str) -> tuple[NDArray[np.float32], bool]:
    """(n, dim) float32 C-contiguous, in place where it is that already; and whether it was one row (dim,)."""
    array = np.asarray(vectors)
    if array.shape in ((0,), (0, 0), (0, dim)):
        return np.empty((0, dim), dtype=np.float32), False
    if array.dtype.kind not in "fiu":
        raise InvalidArgument(f"{name} have dtype {array.dtype}; give numbers, best float32")
    if array.ndim not in (1, 2) or array.shape[-1] != dim:
        raise InvalidArgument(f"{name} have shape {array.shape}; expected (n, {dim}) or ({dim},)")
    with np.errstate(over="ignore"):  # an overflow becomes inf, which the native check names
        rows = np.ascontiguousarray(array, dtype=np.float32)
    return rows.reshape(-1, dim), array.ndim == 1


def ids_of(ids: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(ids)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise InvalidArgument(f"ids have dtype {array.dtype}; give whole numbers, best int64")
    if array.ndim > 1:
        raise InvalidArgument(f"ids have shape {array.shape}; expected (n,)")
    if array.dtype.kind == "u" and int(array.max()) > 2**63 - 1:
        raise InvalidArgument(f"id {int(array.max())} is too large; ids are 0 to 2^63-1")
    return np.ascontiguousarray(array, dtype=np.int64).reshape(-1)


def filter_of(given: Filter | ArrayLike | None) -> IdSet | Callable[[int], bool] | None:
    if given is None or isinstance(given, IdSet):
        return given
    if callable(given):
        return given
    return IdSet(ids_of(given))


def checked_out(
    out: tuple[NDArray[np.int64], NDArray[np.float32]], shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if not isinstance(out, tuple) or len(out) != 2:
        raise InvalidArgument("out is not a pair of arrays; give (ids, distances)")
    for array, dtype, name in ((out[0], np.int64, "ids"), (out[1], np.float32, "distances")):
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InvalidArgument(f"out {name} is {got}; expected {np.dtype(dtype)} {shape}")
        if not (array.flags.c_contiguous and array.flags.writeable):
            raise InvalidArgument(f"out {name} is not writable and C-contiguous; make it with numpy.empty")
    return out
