"""``embedcore eval golden``: sets imported and listed, and queries of the log sampled for labelling."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedcore.cli.context import Session, command
from embedcore.cli.output import plain
from embedcore.errors import EmbedcoreError, InvalidArgument

if TYPE_CHECKING:
    from embedcore.evaluation.importing import Imported

_COLUMNS = ("query_id", "text", "bucket", "item", "content", "position", "rater", "grade")


def register(group: typer.Typer) -> None:
    golden = typer.Typer(help="Golden sets: labelled queries of a consumer.", no_args_is_help=True)
    command(golden, "import")(import_sets)
    command(golden, "list")(list_sets)
    command(golden, "sample")(sample)
    group.add_typer(golden, name="golden")


def import_sets(
    session: Session,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="JSON, JSON Lines, CSV, TSV, Parquet, TREC qrels, or a folder in BEIR's layout."),
    ] = None,
    consumer: Annotated[
        str, typer.Option("--consumer", "-c", help="Whose queries; a file of rows does not say.")
    ] = "",
    name: Annotated[str, typer.Option("--name", help="Of the set; default: the file's.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", help="Where its item ids are looked up.")] = "",
    public: Annotated[
        bool | None,
        typer.Option(
            "--public/--own", help="A published set is no gate. [default: public for TREC and BEIR]"
        ),
    ] = None,
    signal: Annotated[
        bool, typer.Option("--signal", help="Keep it beside the set that gates the consumer.")
    ] = False,
    query_texts: Annotated[
        Path | None, typer.Option("--query-texts", help="Texts of the queries, beside TREC qrels or rows.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Of a BEIR folder.")] = "test",
    drop_unlabelled: Annotated[
        bool, typer.Option("--drop-unlabelled", help="Leave rows without a grade out.")
    ] = False,
    propensities: Annotated[
        str | None,
        typer.Option("--propensities", help="Of clicks: 1=1,2=0.6,...  [default: estimated]"),
    ] = None,
    min_impressions: Annotated[int, typer.Option("--min-impressions", min=1, help="Of clicks.")] = 10,
    min_relevance: Annotated[float, typer.Option("--min-relevance", min=0, max=1, help="Of clicks.")] = 0.1,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="wordnet: sets from its relations.")
    ] = None,
    items: Annotated[int | None, typer.Option("--items", min=1, help="As ingested.  [default: all]")] = None,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Per consumer of a dataset.")] = 4_000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Import golden sets; each is taken whole or not at all.

    Rows have query_id, text, item and grade; clicks have position, impressions and clicks; human labels have
    rater and position beside the grade.
    """
    from embedcore.evaluation.importing import ImportOptions, read_golden
    from embedcore.evaluation.importing.clicks import ClickRules

    if bool(files) == (dataset is not None):
        raise InvalidArgument("give files of golden sets, or --dataset wordnet")
    if dataset is not None:
        found = _dataset(dataset, items, queries, seed)
    else:
        options = ImportOptions(
            consumer=consumer,
            name=name,
            namespace=namespace,
            public=public,
            queries=query_texts,
            split=split,
            drop_unlabelled=drop_unlabelled,
            clicks=ClickRules(
                propensities=None if propensities is None else _propensities(propensities),
                min_impressions=min_impressions,
                min_relevance=min_relevance,
            ),
            seed=seed,
        )
        found = [read_golden(path, options) for path in files or ()]
    imported = []
    with session.platform() as platform:
        for one in found:
            try:
                imported.append(plain(platform.import_golden_set(one.golden, gate=not signal)))
            except EmbedcoreError as error:
                raise one.explain(error) from error
    _show(session, imported)


def list_sets(session: Session) -> None:
    """Every golden set at its newest version."""
    with session.platform() as platform:
        found = [plain(one) for one in platform.golden_sets()]
    _show(session, found)


def sample(
    session: Session,
    consumer: Annotated[str, typer.Option("--consumer", "-c", help="With a query log.")],
    buckets: Annotated[
        str, typer.Option("--buckets", help="How many queries of each.")
    ] = "head=200,torso=300,tail=500",
    out: Annotated[
        Path | None, typer.Option("--out", help="A .csv or .jsonl with one row per candidate.")
    ] = None,
    depth: Annotated[int, typer.Option("--depth", min=1, help="Candidates per generation.")] = 10,
    min_count: Annotated[
        int, typer.Option("--min-count", min=1, help="Leave out texts that were asked less often.")
    ] = 2,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Draw queries of the log to be labelled: fill in grade (and rater), then import the file.

    Candidates are what every live generation answers, in a random order that the file records.
    """
    if out is not None and out.suffix not in (".csv", ".jsonl"):
        raise InvalidArgument(f"--out {out}: give a .csv or .jsonl file")
    wanted = {key: int(value) for key, value in _pairs(buckets, "--buckets")}
    with session.platform() as platform:
        found = platform.sample_queries(consumer, wanted, depth=depth, min_count=min_count, seed=seed)
    if out is not None:
        _write(out, found["queries"])
    rows = [
        (one["query_id"], one["text"], one["bucket"], one["count"], len(one["candidates"]))
        for one in found["queries"]
    ]
    session.out.table(("query", "text", "bucket", "asked", "candidates"), rows, data=found)
    if out is not None:
        session.out.note(
            f"wrote {out}: fill in grade, then `embedcore eval golden import {out} -c {consumer}`"
        )


def _write(path: Path, queries: Sequence[dict[str, Any]]) -> None:
    rows = [
        {
            **{key: query[key] for key in ("query_id", "text", "bucket")},
            **candidate,
            "rater": "",
            "grade": "",
        }
        for query in queries
        for candidate in query["candidates"]
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, _COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _dataset(dataset: str, items: int | None, queries: int, seed: int) -> list[Imported]:
    from embedcore.datasets import wordnet
    from embedcore.evaluation.importing import Imported

    if dataset != "wordnet":
        raise InvalidArgument(f"unknown dataset {dataset!r}; there is: wordnet")
    sets = wordnet.golden_sets(wordnet.load(items, seed), queries, seed)
    return [Imported(golden) for golden in sets.values()]


def _show(session: Session, found: list[dict[str, Any]]) -> None:
    rows = []
    for one in found:
        labelling = one.get("labelling") or {}
        evidence = labelling.get("evidence") or {}
        alpha = evidence.get("alpha")
        labels = labelling.get("kind", "given")
        if labels == "raters":
            labels += f", alpha {'-' if alpha is None else f'{alpha:.2f}'}"
        if labels == "clicks":
            labels += ", position corrected"
        rows.append(
            (
                one.get("name"),
                one.get("consumer"),
                one.get("version"),
                one.get("queries"),
                "gate" if one.get("gate") else "public signal" if one.get("public") else "signal",
                labels,
                one.get("digest"),
            )
        )
    columns = ("golden set", "consumer", "version", "queries", "use", "labels", "digest")
    session.out.table(columns, rows, data=found)
    for one in found:
        _warn(session, one)


def _warn(session: Session, one: dict[str, Any]) -> None:
    evidence = (one.get("labelling") or {}).get("evidence") or {}
    if evidence.get("agreement_low"):
        session.out.note(f"{one['name']}: raters agree little (alpha {evidence['alpha']:.2f}, below 0.667)")
    if evidence.get("position_effect"):
        session.out.note(
            f"{one['name']}: grades depend on the order of presentation "
            f"(p = {evidence['position_p_value']:.3g}, {evidence['position_slope']:+.3f} per position)"
        )


def _pairs(text: str, option: str) -> list[tuple[str, str]]:
    found = []
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value.replace(".", "", 1).isdigit():
            raise InvalidArgument(f"{option}: {part!r} is not name=number")
        found.append((key, value))
    return found


def _propensities(text: str) -> dict[int, float]:
    found = {}
    for key, value in _pairs(text, "--propensities"):
        if not key.isdigit() or not 0 < float(value) <= 1:
            raise InvalidArgument(f"--propensities: {key}={value} is not position=share in (0, 1]")
        found[int(key)] = float(value)
    return found
