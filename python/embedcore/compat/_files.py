"""The file of a compat index: one snapshot, and behind it what the index below does not keep.

  S bytes        snapshot of embedcore.Index; its fingerprint is "embedcore.compat.hnswlib " and JSON:
                 {"version": 1, "max_elements", "M", "ef_construction", "random_seed", "deleted": n}
  only if n > 0, little-endian:
  n x 8          labels of the deleted items
  n x dim x 4    their vectors
  32             footer: magic "EMBCDELD", S u64, n u64, CRC-32 of all from S up to here as u64

Without deleted items the file is an ordinary snapshot. Integrity, not secrecy or authenticity.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import EmbedcoreError
from embedcore.index import Index

_PREFIX: Final = "embedcore.compat.hnswlib "
_VERSION: Final = 1
_FOOTER: Final = struct.Struct("<8sQQQ")
_MAGIC: Final = b"EMBCDELD"


@dataclass(frozen=True, slots=True)
class Settings:
    """What hnswlib keeps in a file besides items and links."""

    max_elements: int
    M: int
    ef_construction: int
    random_seed: int


def write_index(
    path: str, index: Index, settings: Settings, deleted: Mapping[int, NDArray[np.float32]]
) -> None:
    """Whole or not at all: the file under ``path`` is the old one until the new one is on disk."""
    text = json.dumps({"version": _VERSION, **asdict(settings), "deleted": len(deleted)})

    def write(temporary: str) -> None:
        index.save(temporary, fingerprint=_PREFIX + text)
        if not deleted:
            return
        with open(temporary, "ab") as file:
            snapshot = file.tell()
            labels = np.fromiter(deleted, dtype="<i8", count=len(deleted)).tobytes()
            file.write(labels)
            crc = zlib.crc32(labels)
            for vector in deleted.values():
                row = vector.astype("<f4").tobytes()
                file.write(row)
                crc = zlib.crc32(row, crc)
            fields = _FOOTER.pack(_MAGIC, snapshot, len(deleted), 0)[:-8]
            file.write(fields + struct.pack("<Q", zlib.crc32(fields, crc)))
            file.flush()
            os.fsync(file.fileno())

    replace_file(path, write)


def read_index(path: str) -> tuple[Index, Settings, dict[int, NDArray[np.float32]]]:
    """RuntimeError for a file that is missing, damaged or not from :func:`write_index`."""
    with opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _FOOTER.size, 0))
        tail = file.read()
        try:
            if tail[: len(_MAGIC)] != _MAGIC:
                index, deleted = Index.load(path), dict[int, NDArray[np.float32]]()
            else:
                index, deleted = _read_both(path, file, size, tail)
        except EmbedcoreError as error:
            raise RuntimeError(f"Index seems to be corrupted or unsupported: {error}") from error
    settings, expected = _parse(path, index.fingerprint)
    if expected != len(deleted):
        raise RuntimeError(
            f"Index seems to be corrupted or unsupported: {path} has {len(deleted)} deleted items, its "
            f"header says {expected}; restore the file from a backup"
        )
    return index, settings, deleted


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise RuntimeError(f"Cannot open file {path}: {error.strerror}") from error
    with file:
        yield file


def replace_file(path: str, write: Callable[[str], None]) -> None:
    """Has ``write`` make a file beside ``path``, then renames it over ``path``. RuntimeError if it cannot."""
    temporary = f"{path}.tmp-{os.getpid()}-{threading.get_ident()}"
    try:
        write(temporary)
        os.replace(temporary, path)
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename, too, survives a power cut
        finally:
            os.close(folder)
    except (OSError, EmbedcoreError) as error:
        raise RuntimeError(f"Cannot write file {path}: {error}") from error
    finally:
        with suppress(OSError):  # after the rename it is gone
            os.unlink(temporary)


def _read_both(
    path: str, file: BinaryIO, size: int, tail: bytes
) -> tuple[Index, dict[int, NDArray[np.float32]]]:
    _, snapshot, count, crc = _FOOTER.unpack(tail)
    if snapshot >= size:
        raise _damaged(path)
    file.seek(snapshot)
    behind = file.read()
    if zlib.crc32(behind[:-8]) != crc:
        raise _damaged(path)
    # Index.load reads whole files only. Beside the file there is room of the right kind, if it may be used.
    beside = os.path.dirname(os.path.abspath(path))
    room = beside if os.access(beside, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=".embedcore-", dir=room) as folder:
        alone = os.path.join(folder, "snapshot")
        with open(alone, "wb") as copy:
            file.seek(0)
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.truncate(snapshot)
        index = Index.load(alone)
    if len(behind) != count * (8 + 4 * index.dim) + _FOOTER.size:
        raise _damaged(path)
    labels = np.frombuffer(behind, dtype="<i8", count=count).tolist()
    vectors = np.frombuffer(behind, dtype="<f4", count=count * index.dim, offset=8 * count)
    rows = vectors.astype(np.float32).reshape(count, index.dim)
    return index, {label: row.copy() for label, row in zip(labels, rows, strict=True)}


def _parse(path: str, fingerprint: str) -> tuple[Settings, int]:
    if not fingerprint.startswith(_PREFIX):
        raise RuntimeError(f"{path} was saved by embedcore.Index; load it with embedcore.Index.load")
    fields = json.loads(fingerprint.removeprefix(_PREFIX))
    if fields.pop("version") != _VERSION:
        raise RuntimeError(f"{path} is of a newer embedcore; load it with that")
    deleted = int(fields.pop("deleted"))
    return Settings(**fields), deleted


def _damaged(path: str) -> RuntimeError:
    return RuntimeError(
        f"Index seems to be corrupted or unsupported: the deleted items of {path} are damaged; restore the "
        "file from a backup"
    )
