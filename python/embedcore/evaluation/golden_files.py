"""A golden set as a file of its own: one JSON document, or JSON Lines with a header and a query per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from embedcore.errors import InvalidArgument
from embedcore.evaluation.golden import GoldenQuery, GoldenSet, refuse


def save_golden(golden: GoldenSet, path: str | Path) -> None:
    """Writes ``.jsonl`` (a header line, then one query per line) or one JSON document."""
    target = Path(path)
    if target.suffix == ".jsonl":
        header = golden.model_dump_json(exclude={"queries"})
        lines = [header, *(query.model_dump_json() for query in golden.queries)]
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        target.write_text(golden.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_golden(path: str | Path) -> GoldenSet:
    """Reads what :func:`save_golden` writes; InvalidArgument names file, line and reason."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"golden set {source}: cannot be read ({error}); give a UTF-8 file") from error
    if source.suffix != ".jsonl":
        try:
            return GoldenSet.model_validate_json(text)
        except ValidationError as error:
            raise InvalidArgument(
                f"golden set {source}: {_reason(error)}; correct it, nothing was read"
            ) from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise InvalidArgument(f"golden set {source}: the file is empty; its first line is the header")
    problems: list[str] = []
    header: dict[str, Any] = {}
    queries: list[GoldenQuery] = []
    for position, (number, line) in enumerate(lines):
        try:
            if position == 0:
                header = GoldenSet.model_validate({**json.loads(line), "queries": ()}).model_dump()
            else:
                queries.append(GoldenQuery.model_validate_json(line))
        except ValidationError as error:
            problems.append(f"line {number}: {_reason(error)}")
        except (json.JSONDecodeError, TypeError) as error:
            problems.append(f"line {number}: not a JSON object ({error})")
    refuse(f"golden set {source}", problems)
    return GoldenSet.model_validate({**header, "queries": tuple(queries)})


def _reason(error: ValidationError) -> str:
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else str(detail["msg"])
