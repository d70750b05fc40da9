"""Rows of JSON Lines, CSV, TSV and Parquet files, each with the place it came from, for errors."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from embedcore.errors import InvalidArgument

Row = tuple[str, Mapping[str, Any]]  # "FILE line 7", field -> value
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_PARQUET_ROWS = 4_096  # read at once


def read_rows(path: Path) -> Iterator[Row]:
    """Rows in order: ``.csv`` and ``.tsv`` with a header line, ``.parquet``, anything else JSON Lines.

    InvalidArgument names the file and line of the first row that cannot be read; the rows before it have
    been given out. Empty cells of CSV are empty text; what Parquet holds as null is left out.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    separator = _SEPARATORS.get(path.suffix)
    try:
        file = path.open(encoding="utf-8", newline="" if separator else None)
    except OSError as error:
        raise InvalidArgument(f"{path}: {error.strerror}; give a .jsonl or .csv file") from error
    with file:
        try:
            yield from _separated(path, file, separator) if separator else _jsonl(path, file)
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error


def _separated(path: Path, file: IO[str], separator: str) -> Iterator[Row]:
    reader = csv.DictReader(file, strict=True, delimiter=separator)
    try:
        for record in reader:
            yield f"{path} line {reader.line_num}", record
    except csv.Error as error:
        raise InvalidArgument(f"{path} line {reader.line_num}: {error}") from error


def _jsonl(path: Path, file: IO[str]) -> Iterator[Row]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidArgument(f"{where}: not JSON ({error.msg})") from error
        if not isinstance(record, dict):
            raise InvalidArgument(f"{where}: expected a JSON object, got {type(record).__name__}")
        yield where, record


def _parquet(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise InvalidArgument(
            "reading Parquet needs pyarrow: pip install 'embedcore[parquet]', or convert to CSV"
        ) from error
    try:
        file = parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
            for record in batch.to_pylist():
                number += 1
                yield (
                    f"{path} row {number}",
                    {name: value for name, value in record.items() if value is not None},
                )
    except (OSError, ArrowException) as error:
        raise InvalidArgument(f"{path}: not a readable Parquet file ({error})") from error
