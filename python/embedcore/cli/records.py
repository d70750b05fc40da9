"""Items read from JSON Lines or CSV, one at a time, each problem named with its file and line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from embedcore.errors import InvalidArgument
from embedcore.row_files import read_rows
from embedcore.types import AttributeValue, Item


@dataclass(frozen=True, slots=True)
class Fields:
    """Which field of a record is what. ``attributes``: fields kept as attributes under their own names."""

    id: str = "id"
    content: str = "content"
    attributes: tuple[str, ...] = ()
    created_at: str = "created_at"
    namespace_field: str = ""
    namespace: str = ""  # of records without a namespace of their own


def read_items(path: Path, fields: Fields) -> Iterator[Item]:
    """Items of a ``.csv`` (with a header line) or JSON Lines file, in order.

    A JSON record's ``attributes`` object, if it has one, is taken as it is. InvalidArgument names the file
    and line of the first record that is wrong; the items before it have been given out.
    """
    for where, record in read_rows(path):
        yield item_of(where, record, fields)


def count_records(path: Path) -> int | None:
    """How many records a progress bar can expect: lines of JSON Lines; None for formats whose texts may hold
    line breaks."""
    if path.suffix in (".csv", ".tsv", ".parquet"):
        return None
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def item_of(where: str, record: Mapping[str, Any], fields: Fields) -> Item:
    """The item of one record; ``where`` names it in errors."""
    item_id = record.get(fields.id)
    if item_id is None or item_id == "":
        raise InvalidArgument(f"{where}: no field {fields.id!r}; name the id's field with --id-field")
    content = record.get(fields.content)
    if content is not None and not isinstance(content, str):
        raise InvalidArgument(f"{where}: field {fields.content!r} is not text")
    attributes = dict(_attributes(where, record.get("attributes") or {}))
    for name in fields.attributes:
        if record.get(name) is not None:
            attributes |= _attributes(where, {name: record[name]})
    namespace = record.get(fields.namespace_field) if fields.namespace_field else None
    return Item(
        id=str(item_id),
        content=content,
        attributes=attributes,
        namespace=fields.namespace if namespace is None else str(namespace),
        created_at=_moment(where, record.get(fields.created_at)),
    )


def _attributes(where: str, found: Any) -> dict[str, AttributeValue]:
    if not isinstance(found, Mapping):
        raise InvalidArgument(f"{where}: attributes is not an object")
    for name, value in found.items():
        if not isinstance(value, (str, int, float, bool)):
            raise InvalidArgument(
                f"{where}: attribute {name!r} is a {type(value).__name__}; give text, a number or true/false"
            )
    return dict(found)


def _moment(where: str, value: Any) -> float | None:
    """Seconds since the Unix epoch, or ISO 8601; a time without a zone is UTC."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidArgument(f"{where}: {value!r} is neither seconds since 1970 nor ISO 8601") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
