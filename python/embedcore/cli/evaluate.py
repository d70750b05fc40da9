"""``embedcore eval``: generations evaluated, compared, reported on; preprocessing compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedcore.cli import (
    evaluate_calibrate,
    evaluate_engagement,
    evaluate_golden,
    evaluate_simulate,
    evaluate_view,
    parse,
)
from embedcore.cli.context import Session, command
from embedcore.errors import FailedPrecondition, GateNotMet, InvalidArgument
from embedcore.migration_types import Plan

if TYPE_CHECKING:
    from embedcore.api import PlatformApi

ConsumerOption = Annotated[
    list[str] | None, typer.Option("--consumer", "-c", help="Repeatable; all by default.")
]
GoldenOption = Annotated[
    str, typer.Option("--golden", help="Another golden set than the one that gates the consumer.")
]
PolicyOption = Annotated[str | None, typer.Option("--policy", help="strict or non-inferior.")]
MarginOption = Annotated[float | None, typer.Option("--margin", min=0, max=1, help="0.02: 2 pp.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Golden sets, recall measured on them, and the verdicts that decide.", no_args_is_help=True
    )
    command(group, "run")(run)
    command(group, "compare")(compare)
    command(group, "report")(report)
    command(group, "preflight")(preflight)
    command(group, "parity")(parity)
    for part in (evaluate_golden, evaluate_calibrate, evaluate_engagement, evaluate_simulate):
        part.register(group)
    app.add_typer(group, name="eval")


def run(
    session: Session,
    consumer: ConsumerOption = None,
    generation: Annotated[int, typer.Option("--generation", min=0, help="0: the serving one.")] = 0,
    golden: GoldenOption = "",
) -> None:
    """Evaluate a generation: recall against the labels (the model) and against exact search (the index)."""
    with session.platform() as platform:
        names = consumer or _consumers(platform)
        documents = [
            platform.evaluate(name, generation, golden_set=golden)
            for name in session.out.each("evaluating", names)
        ]
    evaluate_view.evaluations(session.out, documents)


def compare(
    session: Session,
    source: Annotated[int, typer.Option("--source", min=1, help="Generation.")],
    target: Annotated[int, typer.Option("--target", min=1, help="Generation.")],
    consumer: ConsumerOption = None,
    policy: PolicyOption = None,
    margin: MarginOption = None,
    equal_freshness: Annotated[
        bool,
        typer.Option("--equal-freshness", help="The models on items that both hold; default: as they stand."),
    ] = False,
    golden: GoldenOption = "",
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when a gate is not met.")] = False,
) -> None:
    """Compare two generations, paired per query, and show what the gates say."""
    plan = _plan(policy, margin)
    with session.platform() as platform:
        names = consumer or _consumers(platform)
        documents = [
            platform.compare(name, source, target, plan, equal_freshness=equal_freshness, golden_set=golden)
            for name in session.out.each("comparing", names)
        ]
    refused = evaluate_view.comparisons(session.out, names, documents)
    if check and refused:
        raise GateNotMet(f"{len(refused)} gate(s) not met", {"evidence": refused})


def report(
    session: Session,
    source: Annotated[int, typer.Option("--source", min=0, help="Generation; 0: the migration's.")] = 0,
    target: Annotated[int, typer.Option("--target", min=0, help="Generation; 0: the migration's.")] = 0,
    migration: Annotated[str, typer.Option("--migration", help="Its id; default: the latest.")] = "",
    consumer: ConsumerOption = None,
    policy: PolicyOption = None,
    margin: MarginOption = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the page to this file.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when the answer is no.")] = False,
) -> None:
    """Everything that decides, over all consumers: a table here, one HTML page, or JSON."""
    from embedcore.evaluation.reporting.page import render

    if html is not None and not html.parent.is_dir():
        raise InvalidArgument(f"--html {html}: there is no folder {html.parent}")
    with session.out.progress("comparing all consumers", None), session.platform() as platform:
        found = platform.evaluation_report(
            source,
            target,
            consumers=consumer or (),
            plan=_plan(policy, margin),
            migration_id=migration,
        )
    if html is not None:
        html.write_text(render(found), encoding="utf-8")
    evaluate_view.report(session.out, found)
    if html is not None:
        session.out.note(f"wrote {html}")
    if check and not found["go"]:
        raise GateNotMet(f"no go: {found['headline']}", {"evidence": evaluate_view.refusals(found)})


def preflight(
    session: Session,
    model: Annotated[str, typer.Argument(help="The target model.")],
    policy: PolicyOption = None,
    margin: MarginOption = None,
) -> None:
    """Judge a model on a sample that both models embed, without starting a migration; exit 1 if refused."""
    with session.out.progress(f"judging {model}", None), session.platform() as platform:
        evaluate_view.register_builtin(platform, model)
        found = platform.preflight(model, _plan(policy, margin))
    evaluate_view.preflight(session.out, found)
    if not found["passed"]:
        failed = [gate for gate in found["gates"].values() if not gate["passed"]]
        raise GateNotMet(f"{model}: the pre-flight refuses", {"evidence": failed})


def parity(
    session: Session,
    query: Annotated[
        Path | None, typer.Option("--query", help="Query side: model specification, manifest or vocabulary.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option("--index", help="Index side, a file of the same kind.")
    ] = None,
) -> None:
    """Compare query-side with index-side tokenizer and preprocessing by their hashes; exit 1 if they differ.

    Without files: every live generation of the platform against what its queries are encoded with, and the
    consumers' tokenizer pins.
    """
    if (query is None) != (index is None):
        raise InvalidArgument("give both --query and --index, or neither to check a platform")
    if query is not None and index is not None:
        from embedcore.evaluation.parity import check_files

        found = check_files(query, index).to_document()
    else:
        with session.platform() as platform:
            found = platform.check_parity()
    rows = [
        (row["where"], row["part"], "same" if row["equal"] else "DIFFERS", row["query"], row["index"])
        for row in found["rows"]
    ]
    session.out.table(("where", "part", "", "query side", "index side"), rows, data=found)
    if not found["equal"]:
        differing = [row for row in found["rows"] if not row["equal"]]
        session.out.note(
            f"{len(differing)} of {len(rows)} differ: queries and items do not pass through the same "
            "preprocessing; deploy the index's, or migrate to a model that is made with the new one"
        )
        raise typer.Exit(1)


def _plan(policy: str | None, margin: float | None) -> Plan | None:
    changes: dict[str, Any] = {
        key: value for key, value in (("policy", policy), ("margin", margin)) if value is not None
    }
    return parse.document(Plan, changes, "plan") if changes else None


def _consumers(platform: PlatformApi) -> list[str]:
    """Consumers; those without a golden set are an error of evaluate, which names the remedy."""
    names = [consumer.name for consumer in platform.consumers()]
    if not names:
        raise FailedPrecondition("there are no consumers: add one with `embedcore consumers set NAME`")
    return names
