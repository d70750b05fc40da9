"""One entry for all formats: a file or folder becomes a golden set, or one error that lists every problem."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from embedcore.errors import EmbedcoreError, InvalidArgument
from embedcore.evaluation.golden import GoldenQuery, GoldenSet, Labelling, refuse
from embedcore.evaluation.golden_files import load_golden
from embedcore.evaluation.importing.clicks import ClickRules, grades_from_clicks
from embedcore.evaluation.importing.judgements import Judgement, Key, collect, parse_rows
from embedcore.evaluation.importing.raters import grades_from_raters
from embedcore.evaluation.importing.trec import read_beir_qrels, read_qrels, read_queries
from embedcore.row_files import Row, read_rows

_ROWS = frozenset({".csv", ".tsv", ".parquet"})
# How golden.query_label and the problems of the registry name a query, and an item in one.
_PROBLEM = re.compile(r"query (\d+) \((?:'[^']*'|\"[^\"]*\")\)(: [^;]*?item '([^']*)')?")


@dataclass(frozen=True)
class ImportOptions:
    """What a file of rows does not say itself. ``public`` None: yes for the layouts of published collections
    (TREC, BEIR), no for anything else. ``queries``: the file of query texts beside TREC qrels. ``split``: of
    a BEIR folder. ``drop_unlabelled``: rows without a grade are left out instead of refused."""

    consumer: str = ""
    name: str = ""
    namespace: str = ""
    public: bool | None = None
    queries: Path | None = None
    split: str = "test"
    drop_unlabelled: bool = False
    clicks: ClickRules = field(default_factory=ClickRules)
    seed: int = 0


@dataclass(frozen=True)
class Imported:
    """A golden set and where in the file each query (item "") and each of its labels stands."""

    golden: GoldenSet
    places: Mapping[Key, str] = field(default_factory=dict)

    def explain(self, error: EmbedcoreError) -> EmbedcoreError:
        """A refusal by the registry, with lines of the file in place of positions in the set."""
        if not self.places:
            return error
        details = dict(error.details)
        if isinstance(details.get("problems"), list):
            details["problems"] = [self._placed(str(problem)) for problem in details["problems"]]
        return type(error)(self._placed(error.message), details)

    def _placed(self, text: str) -> str:
        return _PROBLEM.sub(self._place, text)

    def _place(self, match: re.Match[str]) -> str:
        position = int(match[1])
        if not 1 <= position <= len(self.golden.queries):
            return match[0]
        query = self.golden.queries[position - 1].id
        place = self.places.get((query, match[3] or "")) or self.places.get((query, ""))
        return match[0] if place is None else f"{place}: {match[0]}"


def read_golden(path: Path, options: ImportOptions | None = None) -> Imported:
    """Reads whatever ``path`` is; the format follows from its suffix and first row.

    InvalidArgument lists the problems with their lines; nothing is half-read. FailedPrecondition when clicks
    do not tell position from relevance.
    """
    rules = options or ImportOptions()
    if path.is_dir():
        return _collection(path, rules, *_beir(path, rules))
    if path.suffix == ".json" or (path.suffix == ".jsonl" and not _is_row(path)):
        return _own_format(path, rules)
    if path.suffix in _ROWS or path.suffix == ".jsonl":
        return _rows(path, rules)
    problems: list[str] = []
    if rules.queries is None:
        raise InvalidArgument(
            f"{path}: TREC qrels need the file of query texts beside them: give --query-texts"
        )
    texts = read_queries(rules.queries, problems)
    return _collection(path, rules, texts, read_qrels(path, problems), problems)


def _own_format(path: Path, rules: ImportOptions) -> Imported:
    golden = load_golden(path)
    changes: dict[str, Any] = {
        name: value
        for name, value in (
            ("consumer", rules.consumer),
            ("name", rules.name),
            ("namespace", rules.namespace),
            ("public", rules.public),
        )
        if value not in ("", None)
    }
    places = {}
    if path.suffix == ".jsonl":
        numbers = [n for n, line in enumerate(path.read_text("utf-8").splitlines(), 1) if line.strip()]
        for query, number in zip(golden.queries, numbers[1:], strict=True):
            places[query.id, ""] = f"{path} line {number}"
    return Imported(golden.model_copy(update=changes), places)


def _is_row(path: Path) -> bool:
    """Whether a .jsonl file holds one judgement per line, rather than a golden set with its header."""
    try:
        with path.open(encoding="utf-8") as file:
            first = next((line for line in file if line.strip()), "")
        return "query_id" in json.loads(first)
    except (OSError, ValueError, TypeError):
        return False  # load_golden says what is wrong


def _rows(path: Path, rules: ImportOptions) -> Imported:
    problems: list[str] = []
    fields: set[str] = set()

    def noting(rows: Iterable[Row]) -> Iterable[Row]:
        for where, record in rows:
            fields.update(name for name, value in record.items() if value not in (None, ""))
            yield where, record

    judgements = parse_rows(noting(read_rows(path)), problems)
    if rules.drop_unlabelled:
        judgements = [row for row in judgements if row.grade is not None or row.exclude]
    texts = None if rules.queries is None else read_queries(rules.queries, problems)
    kind, relabel = "given", None
    if "clicks" in fields or "impressions" in fields:
        kind, relabel = "clicks", lambda rows: grades_from_clicks(rows, rules.clicks, problems)
    elif "rater" in fields:
        kind, relabel = "raters", lambda rows: grades_from_raters(rows, problems, rules.seed)
    return _assemble(path, rules, texts, judgements, problems, public=False, kind=kind, relabel=relabel)


def _beir(path: Path, rules: ImportOptions) -> tuple[dict[str, Row], list[Judgement], list[str]]:
    problems: list[str] = []
    qrels, queries = path / "qrels" / f"{rules.split}.tsv", path / "queries.jsonl"
    for needed in (qrels, queries):
        if not needed.is_file():
            raise InvalidArgument(f"{path}: a folder in BEIR's layout has {needed.relative_to(path)}")
    return read_queries(queries, problems), read_beir_qrels(qrels, problems), problems


def _collection(
    path: Path,
    rules: ImportOptions,
    texts: Mapping[str, Row],
    judgements: list[Judgement],
    problems: list[str],
) -> Imported:
    """Queries without a judgement are left out: a collection's splits share one file of queries."""
    return _assemble(path, rules, texts, judgements, problems, public=True)


Relabel = Callable[[list[Judgement]], tuple[list[Judgement], dict[str, Any]]]


def _assemble(
    path: Path,
    rules: ImportOptions,
    texts: Mapping[str, Row] | None,
    judgements: list[Judgement],
    problems: list[str],
    *,
    public: bool,
    kind: Any = "given",
    relabel: Relabel | None = None,
) -> Imported:
    if not rules.consumer:
        raise InvalidArgument(f"{path}: rows do not say whose queries they are: name the consumer")
    labelling = None
    if relabel is not None:
        excluded = [row for row in judgements if row.exclude]
        graded, evidence = relabel([row for row in judgements if not row.exclude])
        if not problems:
            worded = _worded(judgements)
            judgements = [replace(row, text=worded.get(row.query, "")) for row in (*graded, *excluded)]
        labelling = Labelling(kind=kind, evidence=evidence)
    found = collect(judgements, problems, texts)
    refuse(f"golden set {path}", problems)
    queries: Iterable[GoldenQuery] = found.queries.values()
    if labelling is not None and kind == "clicks":
        # Nothing of what users were shown was relevant to them: no label, and no mistake of a labeller.
        kept = [query for query in queries if any(grade > 0 for grade in query.relevant.values())]
        evidence = {**labelling.evidence, "queries_without_relevant_items": len(found.queries) - len(kept)}
        queries, labelling = kept, Labelling(kind="clicks", evidence=evidence)
    try:
        golden = GoldenSet(
            name=rules.name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "golden",
            consumer=rules.consumer,
            queries=tuple(queries),
            public=public if rules.public is None else rules.public,
            source=path.name,
            namespace=rules.namespace,
            labelling=labelling,
        )
    except ValidationError as error:
        raise InvalidArgument(f"golden set {path}: {error.errors()[0]['msg']}; give another name") from error
    return Imported(golden, found.places)


def _worded(judgements: Iterable[Judgement]) -> dict[str, str]:
    """The first text that any row gives for a query."""
    found: dict[str, str] = {}
    for row in judgements:
        if row.text:
            found.setdefault(row.query, row.text)
    return found
