"""Layouts of published collections: TREC qrels beside a file of queries, and BEIR's folder.

TREC qrels: lines "query 0 item grade", separated by blanks. Queries: TSV "id<TAB>text" without a header, or
JSON Lines with ``_id`` (or ``query_id``) and ``text``. A BEIR folder holds ``queries.jsonl`` and
``qrels/SPLIT.tsv`` with the header "query-id corpus-id score". A grade below 0 counts as 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from embedcore.errors import InvalidArgument
from embedcore.evaluation.importing.judgements import Judgement
from embedcore.row_files import Row, read_rows


def read_qrels(path: Path, problems: list[str]) -> list[Judgement]:
    """Judgements of a TREC qrels file; a line that is none is added to ``problems``."""
    found: list[Judgement] = []
    for where, line in _lines(path):
        parts = line.split()
        if len(parts) != 4:
            problems.append(f"{where}: expected 'query 0 item grade', got {len(parts)} fields")
            continue
        _add(found, problems, where, parts[0], parts[2], parts[3])
    return found


def read_beir_qrels(path: Path, problems: list[str]) -> list[Judgement]:
    """Judgements of a BEIR qrels file: three columns by tab, with a header line."""
    found: list[Judgement] = []
    for number, (where, line) in enumerate(_lines(path)):
        parts = line.split("\t")
        if number == 0 and parts[-1].strip() == "score":
            continue
        if len(parts) != 3:
            problems.append(f"{where}: expected 'query-id<TAB>corpus-id<TAB>score', got {len(parts)} fields")
            continue
        _add(found, problems, where, *parts)
    return found


def read_queries(path: Path, problems: list[str]) -> dict[str, Row]:
    """Query id -> row with ``text``."""
    found: dict[str, Row] = {}
    for where, record in _query_rows(path, problems):
        name = str(record.get("_id", record.get("query_id", record.get("id", "")))).strip()
        if not name or not str(record.get("text", "")).strip():
            problems.append(f"{where}: a query needs an id and a text")
        elif name in found:
            problems.append(f"{where}: query {name!r} again, as in {found[name][0]}")
        else:
            found[name] = (where, record)
    return found


def _query_rows(path: Path, problems: list[str]) -> Iterator[Row]:
    if path.suffix in (".jsonl", ".parquet", ".csv"):
        yield from read_rows(path)
        return
    for where, line in _lines(path):
        name, tab, text = line.partition("\t")
        if not tab:
            problems.append(f"{where}: expected 'id<TAB>text'")
            continue
        yield where, {"query_id": name, "text": text}


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path} line {number}", line.rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path}: cannot be read ({error}); give a UTF-8 file") from error


def _add(found: list[Judgement], problems: list[str], where: str, query: str, item: str, grade: str) -> None:
    try:
        value = float(grade)
    except ValueError:
        problems.append(f"{where}: grade is {grade!r}, expected a number")
        return
    found.append(Judgement(where, query.strip(), item.strip(), grade=max(0.0, value)))
