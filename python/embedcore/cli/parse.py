"""Values of options: key=value attributes, JSON given inline or as a file, addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from embedcore.errors import InvalidArgument
from embedcore.types import AttributeValue, Document

D = TypeVar("D", bound=Document)


def attributes(pairs: Sequence[str]) -> dict[str, AttributeValue]:
    """``key=text``, or ``key:=JSON`` for a number or a boolean."""
    found: dict[str, AttributeValue] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        typed = key.endswith(":")
        key = key.removesuffix(":")
        if not separator or not key:
            raise InvalidArgument(f"{pair!r} is not key=text or key:=number|true|false")
        found[key] = _typed(pair, text) if typed else text
    return found


def _typed(pair: str, text: str) -> AttributeValue:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"{pair!r}: what follows := is not JSON ({error.msg})") from error
    if not isinstance(value, (str, int, float, bool)):
        raise InvalidArgument(f"{pair!r}: an attribute is a text, a number or true/false")
    return value


def json_value(text: str, what: str) -> Any:
    """JSON given inline (it begins with ``{`` or ``[``) or as the name of a file."""
    source = text.strip()
    where = what
    if not source.startswith(("{", "[")):
        path = Path(text)
        where = f"{what} {path}"
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidArgument(f"{where}: {reason}; give JSON, or a file that holds it") from error
    try:
        return json.loads(source)
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"{where} is not JSON: {error.msg} in line {error.lineno}") from error


def document(kind: type[D], value: Any, what: str) -> D:
    """The value as a document; InvalidArgument names the first field that is wrong."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InvalidArgument(
            f"{what}: {where}: {first['msg']} (fields: {', '.join(sorted(kind.model_fields))})"
        ) from error


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]i?B?|B)?", re.IGNORECASE)


def size(text: str, what: str) -> int:
    """Bytes: ``4096``, ``256MiB``, ``1.5G``. Powers of 1024, however they are spelled."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise InvalidArgument(f"{what}: {text!r} is not a size such as 256MiB, 2GiB or 0")
    power = "BKMGT".index((found[2] or "B")[0].upper())
    return int(float(found[1]) * 1024**power)
