"""Files of the hnswlib package itself, read but never written: its items come over, its graph does not.

Index, versions 0.4 to 0.8, little-endian (saveIndex of its hnswalg.h):

  u64            0, where level 0 begins in memory
  3 x u64        max_elements, elements n, bytes of an element of level 0
  2 x u64        where in an element the label is, where the vector is
  i32, u32       highest level, entry point
  3 x u64        links of a node on upper levels, on level 0, M
  f64, u64       spread of levels, ef_construction
  n elements     u16 number of links, u8 whose lowest bit marks the item deleted, u8, links u32, vector f32,
                 label u64
  n x            u32 bytes of the node's links on upper levels, and those

BFIndex (bruteforce.h): max_elements, bytes of an element and n as u64, then max_elements times a vector and
its label. There are no checksums; whatever sizes can contradict is checked.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

_HEADER: Final = struct.Struct("<6QiI3QdQ")
_FLAT_HEADER: Final = struct.Struct("<3Q")
_MOST_LABEL: Final = 2**63 - 1
_CHUNK: Final = 1 << 14  # vectors copied at once
_UNIT: Final = 1e-3  # how far the squared length of a normalised vector may be from 1


@dataclass(frozen=True, slots=True)
class Foreign:
    """The items of a file, none twice: ``vectors`` (n, dim) in the file, ``labels`` and ``deleted`` (n,)."""

    labels: NDArray[np.int64]
    vectors: NDArray[np.float32]
    deleted: NDArray[np.bool_]
    max_elements: int
    M: int = 0
    ef_construction: int = 0

    def live(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Labels and copied vectors of what is not deleted, some thousands at a time."""
        rows = np.flatnonzero(~self.deleted)
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            yield self.labels[some], self.vectors[some].astype(np.float32)


def is_foreign(file: BinaryIO) -> bool:
    """Whether an Index file may be hnswlib's: its first field is 0 always."""
    file.seek(0)
    return file.read(8) == bytes(8)


def read_foreign(path: str, file: BinaryIO, dim: int, space: str) -> Foreign:
    """An Index. RuntimeError for what is no such file, is damaged, or is of another dim or space."""
    size, fields = _header(path, file, _HEADER)
    (_, limit, count, step, label_at, vector_at, _, _, _, links, named_m, _, breadth) = fields
    if (
        vector_at != 4 + 4 * links
        or label_at < vector_at
        or step != label_at + 8
        or (label_at - vector_at) % 4
    ):
        raise _damaged(path, "its header contradicts itself")
    _check_dim(path, (label_at - vector_at) // 4, dim)
    if count > limit or _HEADER.size + count * step > size:
        raise _damaged(path, f"it has {size} bytes, too few for {count} items")
    _check_upper(path, file, _HEADER.size + count * step, count, size)
    fields_of = {
        "names": ["marks", "vector", "label"],
        "formats": ["u1", ("<f4", (dim,)), "<u8"],
        "offsets": [2, vector_at, label_at],
        "itemsize": step,
    }
    items = _elements(path, fields_of, _HEADER.size, count)
    deleted = (items["marks"] & 1).astype(bool)
    return _checked(path, space, Foreign(*_columns(items), deleted, limit, named_m, breadth))


def read_foreign_flat(path: str, file: BinaryIO, dim: int, space: str) -> Foreign:
    """A BFIndex; RuntimeError as above."""
    size, (limit, step, count) = _header(path, file, _FLAT_HEADER)
    if step < 12 or step % 4 or count > limit or size != _FLAT_HEADER.size + limit * step:
        raise RuntimeError(
            f"{path} is no file of BFIndex, neither of embedcore nor of hnswlib, or is damaged: its {size} "
            "bytes are not what its first fields announce; give a file of save_index"
        )
    _check_dim(path, (step - 8) // 4, dim)
    fields_of = {
        "names": ["vector", "label"],
        "formats": [("<f4", (dim,)), "<u8"],
        "offsets": [0, step - 8],
        "itemsize": step,
    }
    items = _elements(path, fields_of, _FLAT_HEADER.size, count)
    return _checked(path, space, Foreign(*_columns(items), np.zeros(count, dtype=bool), limit))


def _header(path: str, file: BinaryIO, fields: struct.Struct) -> tuple[int, tuple[Any, ...]]:
    """The size of the file, and its first fields."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    header = file.read(fields.size)
    if len(header) < fields.size:
        raise _damaged(path, f"it ends after {len(header)} bytes")
    return size, fields.unpack(header)


def _elements(path: str, fields: dict[str, object], start: int, count: int) -> NDArray[np.void]:
    kind = np.dtype(fields)  # type: ignore[call-overload]
    if count == 0:
        return np.empty(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r", offset=start, shape=(count,))


def _columns(items: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return items["label"].astype(np.uint64).view(np.int64), items["vector"]


def _check_dim(path: str, found: int, dim: int) -> None:
    if found != dim:
        raise RuntimeError(
            f"{path} holds vectors of dim {found}, this index is of dim {dim}; make an index with the dim "
            "that it was saved with"
        )


def _check_upper(path: str, file: BinaryIO, start: int, count: int, size: int) -> None:
    """Follows the lists of the upper levels, which have to end where the file does."""
    file.seek(start)
    rest = memoryview(file.read())
    at = 0
    for _ in range(count):
        if at + 4 > len(rest):
            raise _damaged(path, f"it ends after {size} bytes, in the links")
        at += 4 + int.from_bytes(rest[at : at + 4], "little")
    if at != len(rest):
        raise _damaged(path, f"its links end at byte {start + at} of {size}")


def _checked(path: str, space: str, items: Foreign) -> Foreign:
    labels = items.labels
    if len(labels) and labels.min() < 0:
        label = int(labels[labels < 0][0]) + 2**64
        raise RuntimeError(f"{path} has the label {label}; labels may be 0 to {_MOST_LABEL}")
    if len(np.unique(labels)) != len(labels):
        raise _damaged(path, "a label is in it twice")
    for start in range(0, len(labels), _CHUNK):
        rows = items.vectors[start : start + _CHUNK].astype(np.float64)
        lengths = np.einsum("nd,nd->n", rows, rows)
        if not np.isfinite(lengths).all():
            raise _damaged(path, "it holds NaN or infinity")
        if space == "cosine" and not ((lengths < _UNIT) | (np.abs(lengths - 1) < _UNIT)).all():
            raise RuntimeError(  # zero vectors stay as they are
                f"{path} holds vectors that are not of unit length, so it was not saved by an index for "
                "'cosine'; make an index for the space that it was saved with"
            )
    return items


def _damaged(path: str, what: str) -> RuntimeError:
    return RuntimeError(f"Index seems to be corrupted or unsupported: {path}: {what}")
