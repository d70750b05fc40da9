"""Judgements, one row each, checked and put together to golden queries.

Columns: ``query_id`` and ``item`` (required), ``text`` of the query (in one of its rows at least), ``grade``
(a number >= 0; 1 where there is no such column), ``bucket``, ``exclude`` (true: the item is never an answer).
Clicks have ``position``, ``impressions`` and ``clicks`` in place of a grade; human labels have ``rater`` and,
where it was recorded, the ``position`` at which the rater was shown the item, beside the grade.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from embedcore.evaluation.golden import GoldenQuery
from embedcore.row_files import Row

Key = tuple[str, str]  # query id, item id
_TRUE, _FALSE = frozenset({"1", "true", "yes"}), frozenset({"", "0", "false", "no"})


@dataclass(frozen=True, slots=True)
class Judgement:
    """One row. ``grade`` None: not labelled. ``position`` counts from 1; 0: not recorded."""

    where: str
    query: str
    item: str
    text: str = ""
    bucket: str = ""
    grade: float | None = 1.0
    exclude: bool = False
    rater: str = ""
    position: int = 0
    impressions: int = 0
    clicks: int = 0

    @property
    def key(self) -> Key:
        return self.query, self.item


@dataclass
class Collected:
    """Queries as they are put together, and where each query and each of its items came from."""

    problems: list[str] = field(default_factory=list)
    queries: dict[str, GoldenQuery] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)  # item "": the query itself


def parse_rows(rows: Iterable[Row], problems: list[str]) -> list[Judgement]:
    """Rows as judgements; what is wrong with one is added to ``problems``, with its line, and left out."""
    judgements: list[Judgement] = []
    for where, record in rows:
        try:
            judgements.append(_parse(where, record))
        except ValueError as error:
            problems.append(f"{where}: {error}")
    return judgements


def collect(
    judgements: Iterable[Judgement], problems: list[str], texts: Mapping[str, Row] | None = None
) -> Collected:
    """One query per ``query_id``, in the order of their first rows. ``texts``: of queries that have a file
    of their own, by id. Problems: a pair judged twice, two texts for one query, no text, no grade."""
    found = Collected(problems)
    named: dict[str, tuple[str, str]] = {}  # query -> text, bucket
    labels: dict[str, dict[str, float]] = {}
    excluded: dict[str, list[str]] = {}
    for row in judgements:
        if row.key in found.places:
            problems.append(
                f"{row.where}: item {row.item!r} of query {row.query!r} again, as in {found.places[row.key]}"
            )
            continue
        found.places[row.key] = row.where
        found.places.setdefault((row.query, ""), row.where)
        known = named.get(row.query, ("", ""))
        for old, new, what in ((known[0], row.text, "text"), (known[1], row.bucket, "bucket")):
            if old and new and old != new:
                problems.append(f"{row.where}: another {what} of query {row.query!r} than in a row before")
        named[row.query] = (known[0] or row.text, known[1] or row.bucket)
        if row.exclude:
            excluded.setdefault(row.query, []).append(row.item)
        elif row.grade is None:
            problems.append(f"{row.where}: no grade; label it, or leave unlabelled rows out on purpose")
        else:
            labels.setdefault(row.query, {})[row.item] = row.grade
    for query, (text, bucket) in named.items():
        given = (texts or {}).get(query)
        wording = text if given is None else str(given[1].get("text", ""))
        if not wording.strip():
            problems.append(f"{found.places[query, '']}: query {query!r} has no text")
        found.queries[query] = GoldenQuery(
            id=query,
            text=wording,
            relevant=labels.get(query, {}),
            exclude=tuple(excluded.get(query, ())),
            bucket=bucket,
        )
    return found


def _parse(where: str, record: Mapping[str, Any]) -> Judgement:
    query, item = _text(record, "query_id"), _text(record, "item")
    if not query or not item:
        raise ValueError(f"no {'query_id' if not query else 'item'}")
    exclude = _text(record, "exclude").lower()
    if exclude not in _TRUE | _FALSE:
        raise ValueError(f"exclude is {exclude!r}, expected true or false")
    impressions, clicks = _count(record, "impressions"), _count(record, "clicks")
    if clicks > impressions:
        raise ValueError(f"{clicks} clicks on {impressions} impressions")
    return Judgement(
        where=where,
        query=query,
        item=item,
        text=_text(record, "text"),
        bucket=_text(record, "bucket"),
        grade=_grade(record),
        exclude=exclude in _TRUE,
        rater=_text(record, "rater"),
        position=_count(record, "position"),
        impressions=impressions,
        clicks=clicks,
    )


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return "" if value is None else str(value).strip()


def _grade(record: Mapping[str, Any]) -> float | None:
    if "grade" not in record:
        return 1.0
    text = _text(record, "grade")
    if not text:
        return None
    try:
        grade = float(text)
    except ValueError:
        grade = math.nan
    if not (math.isfinite(grade) and grade >= 0):
        raise ValueError(f"grade is {text!r}, expected a number >= 0")
    return grade


def _count(record: Mapping[str, Any], name: str) -> int:
    text = _text(record, name)
    try:
        value = float(text) if text else 0.0
    except ValueError:
        value = -1.0
    if not (value >= 0 and value.is_integer()):
        raise ValueError(f"{name} is {text!r}, expected a whole number >= 0")
    return int(value)
