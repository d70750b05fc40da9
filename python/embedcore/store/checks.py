"""Refuses bad input before anything changes: ids, attributes, vectors, times."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from embedcore.errors import InvalidArgument
from embedcore.store.interface import ItemWrite
from embedcore.types import Attributes, AttributeValue, Vector, Vectors

MAX_ID_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 256
MAX_ATTRIBUTES: Final = 256
# SQLite's limit on one value is 10^9 bytes; a text to embed is far below this.
MAX_CONTENT_BYTES: Final = 64 << 20

_FLOAT: Final = np.dtype(np.float32)


def check_id(item_id: str, namespace: str) -> None:
    if not _is_plain(item_id, MAX_ID_BYTES):
        _check_text("item id", item_id, MAX_ID_BYTES)
    if not item_id:
        raise InvalidArgument("item id is empty: give every item a non-empty id")
    if not _is_plain(namespace, MAX_NAME_BYTES):
        _check_text("namespace", namespace, MAX_NAME_BYTES)


def check_write(write: ItemWrite) -> None:
    """Everything about a write except its vectors."""
    check_id(write.id, write.namespace)
    content = write.content
    if content is not None and not _is_plain(content, MAX_CONTENT_BYTES):
        _check_text(f"content of item {write.id!r}", content, MAX_CONTENT_BYTES, nul=True)
    if write.attributes:
        check_attributes(write.attributes)
    if write.created_at is not None and not math.isfinite(write.created_at):
        raise InvalidArgument(
            f"created_at of item {write.id!r} is {write.created_at}: give seconds since the epoch, or nothing"
        )


def check_attributes(attributes: Attributes) -> None:
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidArgument(f"{len(attributes)} attributes, at most {MAX_ATTRIBUTES}: leave some out")
    for key, value in attributes.items():
        _check_text("attribute name", key, MAX_NAME_BYTES)
        if not isinstance(value, (str, int, float, bool)):
            raise InvalidArgument(
                f"attribute {key!r} is a {type(value).__name__}: use a string, a number or a truth value"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidArgument(f"attribute {key!r} is {value}: use a finite number")
        if isinstance(value, str):
            _check_text(f"attribute {key!r}", value, MAX_CONTENT_BYTES, nul=True)


def canonical_value(value: AttributeValue) -> str:
    """Text under which equal attribute values meet: 1 and 1.0 are equal; 1, true and "1" are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


def check_vectors(
    vectors: Sequence[Vector], dimension: int, generation: int, names: Iterable[str]
) -> Vectors:
    """(n, dimension) float32 rows. InvalidArgument names the first item whose vector is not usable."""
    labels = list(names)
    rows = [vector for vector in vectors if _is_usual(vector, dimension)]
    if len(rows) == len(vectors) > 0:
        matrix = np.concatenate(rows).reshape(len(rows), dimension)
    else:
        matrix = _converted(vectors, dimension, generation, labels)
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        name = labels[int(np.argmin(finite))]
        raise InvalidArgument(
            f"vector of item {name!r} for generation {generation} has values that are not finite float32:"
            " check its encoder"
        )
    return matrix


def _is_usual(vector: Vector, dimension: int) -> bool:
    return type(vector) is np.ndarray and vector.shape == (dimension,) and vector.dtype == _FLOAT


def _converted(vectors: Sequence[Vector], dimension: int, generation: int, labels: Sequence[str]) -> Vectors:
    """Half and double precision, and lists; anything else is not a vector."""
    rows: list[Vector] = []
    for vector, name in zip(vectors, labels, strict=True):
        row = np.asarray(vector)
        if row.shape != (dimension,) or row.dtype.kind not in "fiu":
            raise InvalidArgument(
                f"vector of item {name!r} for generation {generation} is {row.dtype} of shape {row.shape}:"
                f" expected floats of shape ({dimension},)"
            )
        rows.append(row)
    with np.errstate(over="ignore"):  # what overflows float32 is infinite, and refused by the caller
        return np.array(rows, dtype=np.float32).reshape(len(rows), dimension)


def check_generations(given: Iterable[int], known: Mapping[int, int]) -> None:
    """``known``: generation number -> dimension. InvalidArgument for a number that never was given out."""
    for number in given:
        if number not in known:
            numbers = ", ".join(map(str, sorted(known))) or "none yet"
            raise InvalidArgument(f"generation {number} does not exist (known: {numbers})")


def _is_plain(text: str, limit: int) -> bool:
    """What nearly every text is; of the others :func:`_check_text` says what is wrong, if anything."""
    return text.isascii() and len(text) <= limit and "\0" not in text


def _check_text(what: str, text: str, limit: int, *, nul: bool = False) -> None:
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{what} is not valid Unicode ({error.reason}): send UTF-8") from error
    if size > limit:
        raise InvalidArgument(f"{what} has {size} bytes, at most {limit} are allowed: shorten it")
    if not nul and "\0" in text:
        raise InvalidArgument(f"{what} {text!r} holds a NUL character: remove it")
