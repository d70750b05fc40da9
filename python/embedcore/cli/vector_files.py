"""Vectors that a team has already: NPY or Parquet, with ids, taken over under a declared fingerprint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcore.cli.records import Fields, item_of
from embedcore.errors import InvalidArgument
from embedcore.types import Fingerprint, Item, Vectors

_ROWS = 4_096


def read_ids(path: Path) -> list[str]:
    """One id per line, or the values of a one-dimensional NPY file."""
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
            if values.ndim != 1:
                raise InvalidArgument(f"{path}: expected one id per row, got shape {values.shape}")
            return [str(value) for value in values.tolist()]
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"ids {path}: {getattr(error, 'strerror', None) or error}") from error


def npy_rows(path: Path, fingerprint: Fingerprint) -> NDArray[Any]:
    """(n, dimension), memory-mapped; InvalidArgument when it has another shape or holds no floats."""
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"vectors {path}: {getattr(error, 'strerror', None) or error}") from error
    if rows.ndim != 2 or rows.shape[1] != fingerprint.dimension:
        raise InvalidArgument(
            f"vectors {path}: shape {rows.shape}, but the fingerprint says (n, {fingerprint.dimension})"
        )
    if rows.dtype.kind != "f":
        raise InvalidArgument(f"vectors {path}: dtype {rows.dtype}; give float32, float16 or float64")
    found: NDArray[Any] = rows
    return found


def with_vectors(
    items: Iterator[Item], rows: NDArray[Any], fingerprint: Fingerprint, source: str
) -> Iterator[Item]:
    """Row i belongs to item i. InvalidArgument when there are more of one than of the other."""
    digest = fingerprint.digest
    position = 0
    for position, item in enumerate(items, start=1):
        if position > len(rows):
            raise InvalidArgument(f"{source}: {len(rows)} vectors, but there are more items than that")
        row = np.ascontiguousarray(rows[position - 1], dtype=np.float32)
        yield replace(item, vectors={digest: row})
    if position < len(rows):
        raise InvalidArgument(f"{source}: {len(rows)} vectors, but only {position} items")


def bare_items(ids: Sequence[str], namespace: str) -> Iterator[Item]:
    """Items that are an id and nothing else yet."""
    return (Item(id=item_id, namespace=namespace) for item_id in ids)


def parquet_items(
    path: Path, fields: Fields, vector: str, fingerprint: Fingerprint
) -> tuple[int, Iterator[Item]]:
    """(rows, items) of a Parquet file with an id column and a list-of-floats column ``vector``.

    Columns of content and created_at are used where they exist.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InvalidArgument(
            "reading Parquet needs pyarrow: pip install 'embedcore[parquet]', or convert to .npy"
        ) from error
    try:
        file = parquet.ParquetFile(path)
    except (OSError, ArrowException) as error:
        raise InvalidArgument(f"vectors {path}: {error}") from error
    present = set(file.schema_arrow.names)
    for needed in (fields.id, vector, *fields.attributes):
        if needed not in present:
            raise InvalidArgument(
                f"vectors {path}: no column {needed!r}; it has: {', '.join(sorted(present))}"
            )
    wanted = {fields.id, vector, fields.content, fields.created_at, *fields.attributes}
    if fields.namespace_field:
        wanted.add(fields.namespace_field)
    return file.metadata.num_rows, _rows(file, path, fields, vector, sorted(wanted & present), fingerprint)


def _rows(
    file: Any, path: Path, fields: Fields, vector: str, columns: Sequence[str], fingerprint: Fingerprint
) -> Iterator[Item]:
    done = 0
    for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
        rows = _matrix(batch.column(vector), path, done, fingerprint)
        records = batch.drop_columns([vector]).to_pylist()
        for position, (record, row) in enumerate(zip(records, rows, strict=True), start=done):
            item = item_of(f"{path} row {position}", record, fields)
            yield replace(item, vectors={fingerprint.digest: row})
        done += len(records)


def _matrix(column: Any, path: Path, first: int, fingerprint: Fingerprint) -> Vectors:
    lengths = np.array([-1 if value is None else len(value) for value in column.to_pylist()])
    wrong = np.flatnonzero(lengths != fingerprint.dimension)
    if wrong.size:
        row = int(wrong[0])
        raise InvalidArgument(
            f"vectors {path}: row {first + row} has {lengths[row]} values, but the fingerprint says"
            f" {fingerprint.dimension}"
        )
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat, dtype=np.float32).reshape(len(lengths), fingerprint.dimension)
