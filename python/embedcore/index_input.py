"""What callers give the index, checked and brought into the form that the native core takes."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore import _native
from embedcore.errors import InvalidArgument


def whole(value: object, name: str, low: int, high: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidArgument(f"{name} is {value!r}; give a whole number") from None
    if not low <= number <= high:
        raise InvalidArgument(f"{name} is {number}; it must be {low} to {high}")
    return number


def number(value: object, name: str) -> float:
    try:
        real = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidArgument(f"{name} is {value!r}; give a number") from None
    if math.isnan(real):
        raise InvalidArgument(f"{name} is NaN; give a number")
    return real


def one_of(value: object, name: str, choices: tuple[str, ...]) -> int:
    """The position of value among the choices."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidArgument(f"{name} is {value!r}; use one of {', '.join(choices)}")
    return choices.index(value)


def array_of(given: ArrayLike, name: str) -> NDArray[Any]:
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:  # e.g. rows of unequal length
        raise InvalidArgument(f"{name} make no array: {error}") from None


def rows_of(vectors: ArrayLike, dim: int, name: str) -> tuple[NDArray[np.float32], bool]:
    """(n, dim) float32 C-contiguous, in place where it is that already; and whether it was one row (dim,)."""
    array = array_of(vectors, name)
    if array.shape in ((0,), (0, 0), (0, dim)):
        return np.empty((0, dim), dtype=np.float32), False
    if array.dtype.kind not in "fiu":
        raise InvalidArgument(f"{name} have dtype {array.dtype}; give numbers, best float32")
    if array.ndim not in (1, 2) or array.shape[-1] != dim:
        raise InvalidArgument(f"{name} have shape {array.shape}; expected (n, {dim}) or ({dim},)")
    flags = array.flags
    if not (array.dtype == np.float32 and flags.c_contiguous and flags.aligned):
        with np.errstate(over="ignore"):  # an overflow becomes inf, which the native check names
            array = np.require(array, np.float32, ("C", "ALIGNED"))
    return array.reshape(-1, dim), array.ndim == 1


def ids_of(ids: ArrayLike, name: str = "ids") -> NDArray[np.int64]:
    array = array_of(ids, name)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise InvalidArgument(f"{name} have dtype {array.dtype}; give whole numbers, best int64")
    if array.ndim > 1:
        raise InvalidArgument(f"{name} have shape {array.shape}; expected (n,)")
    if array.dtype.kind == "u" and int(array.max()) > 2**63 - 1:
        raise InvalidArgument(f"id {int(array.max())} is too large; ids are 0 to 2^63-1")
    return np.require(array, np.int64, ("C", "ALIGNED")).reshape(-1)


def text_of(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} is {value!r}; give a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{name} is {value!r}: {error.reason}; give text that UTF-8 can hold") from None
    return value


def path_of(path: str | os.PathLike[str]) -> bytes:
    """As the system takes it. A NUL would cut off what follows."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise InvalidArgument(f"path {os.fsdecode(name)!r} holds a NUL; give the name of a file")
    return name


class IdSet(_native.IdSet):
    """Ids that a search may return, made once for any number of searches: a bitmap, or a hash table where the
    ids lie far apart. Duplicates count once; ids that no index has do no harm.

    ``ids``: whole numbers (n,) below 2^63. Raises ValueError for anything else.
    """

    def __init__(self, ids: ArrayLike) -> None:
        super().__init__(ids_of(ids, "filter ids"))

    def __contains__(self, item: object) -> bool:
        number = id_of(item)
        return number is not None and super().__contains__(number)

    def __repr__(self) -> str:
        return f"<embedcore.IdSet of {len(self)}>"


Filter = NDArray[np.int64] | IdSet | Callable[[int], bool]


def id_of(item: object) -> int | None:
    """None for what cannot be an id."""
    try:
        number = operator.index(item)  # type: ignore[arg-type]
    except TypeError:
        return None
    return number if 0 <= number < 2**63 else None


def filter_of(given: Filter | ArrayLike | None) -> _native.IdSet | Callable[[int], bool] | None:
    if given is None or isinstance(given, _native.IdSet):
        return given
    if callable(given):
        return given
    return IdSet(given)


def checked_out(
    out: tuple[NDArray[np.int64], NDArray[np.float32]], shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if not isinstance(out, tuple) or len(out) != 2:
        raise InvalidArgument("out is not a pair of arrays; give (ids, distances)")
    for array, dtype, name in ((out[0], np.int64, "ids"), (out[1], np.float32, "distances")):
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != shape:
            got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InvalidArgument(f"out {name} is {got}; expected {np.dtype(dtype)} {shape}")
        if not array.flags.carray:  # aligned, too
            raise InvalidArgument(f"out {name} is not writable and C-contiguous; make it with numpy.empty")
    return out
