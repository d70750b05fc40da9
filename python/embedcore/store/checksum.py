"""Digests of items, checksums of shards and of vectors: what makes silent damage visible."""

from __future__ import annotations

import zlib
from typing import Final

import numpy as np

from embedcore.hashing import item_hash
from embedcore.types import Vectors

_MODULUS: Final = 1 << 64
_SIGN: Final = 1 << 63

# A vector as it is stored: little-endian float32, and the CRC-32 of these bytes.
Encoded = tuple[bytearray, int]

# What stands in the digest in place of content. Content itself is marked too, so that no text can look
# like a tombstone.
_DELETED: Final = "D"
_NO_CONTENT: Final = "N"
_CONTENT: Final = "C"


def item_digest(item_id: str, namespace: str, version: int, content: str | None, deleted: bool) -> int:
    """XXH64 of id NUL namespace NUL version NUL content-or-mark, unsigned 64 bit.

    Ids and namespaces hold no NUL, so two different items never give the same bytes.
    """
    if deleted:
        mark = _DELETED
    elif content is None:
        mark = _NO_CONTENT
    else:
        mark = _CONTENT + content
    return item_hash(f"{item_id}\0{namespace}\0{version}\0{mark}")


def to_signed(value: int) -> int:
    """Unsigned 64 bit as the signed integer that SQL can hold."""
    value %= _MODULUS
    return value - _MODULUS if value >= _SIGN else value


def to_unsigned(value: int) -> int:
    """The inverse of :func:`to_signed`."""
    return value % _MODULUS


def encode_vectors(matrix: Vectors) -> list[Encoded]:
    """The rows of (n, dim) float32, as they are stored."""
    # Byte arrays, since the driver asks of everything else how to adapt it, row by row.
    whole = bytearray(np.ascontiguousarray(matrix, dtype="<f4"))
    size = 4 * matrix.shape[1]
    rows = [whole[start : start + size] for start in range(0, len(whole), size)]
    return [(row, zlib.crc32(row)) for row in rows]


def is_intact(data: bytes, checksum: int, dimension: int) -> bool:
    """Whether a stored vector has its length and the checksum it was written with."""
    return len(data) == 4 * dimension and zlib.crc32(data) == checksum


def decode_vectors(rows: list[bytes], dimension: int) -> Vectors:
    """(len(rows), dimension) float32, writable and C-contiguous."""
    if not rows:
        return np.empty((0, dimension), dtype=np.float32)
    flat = np.frombuffer(b"".join(rows), dtype="<f4").astype(np.float32)
    return flat.reshape(len(rows), dimension)
