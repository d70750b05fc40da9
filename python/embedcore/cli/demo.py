"""``embedcore demo``: one whole migration between two real models under live traffic, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedcore.cli.context import Session, command


def register(app: typer.Typer) -> None:
    command(app, "demo", reaches=())(demo)


def demo(
    session: Session,
    items: Annotated[int, typer.Option("--items", min=3_000, help="WordNet items; 117659 is all.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    queries: Annotated[
        int, typer.Option("--queries", min=2_000, help="Golden queries per consumer; fewer decide nothing.")
    ] = 4_000,
    rate: Annotated[
        float, typer.Option("--rate", min=1, help="Live queries per second, all consumers.")
    ] = 50.0,
    time_scale: Annotated[
        float | None,
        typer.Option(
            "--time-scale", min=1, help="Fixed; by default the week is slowed where work would miss its day."
        ),
    ] = None,
    report: Annotated[Path, typer.Option("--report", help="HTML file.")] = Path("demo-report.html"),
    keep: Annotated[Path | None, typer.Option("--keep", help="Keep the data directory here.")] = None,
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill the server with -9 in the backfill and start it again.")
    ] = False,
    refusals: Annotated[
        bool, typer.Option("--refusals/--no-refusals", help="Then try two faulty models.")
    ] = True,
) -> None:
    """Replace a real embedding model under live traffic, then watch two faulty ones be refused.

    Time is simulated (a week passes in minutes) and so are the users' clicks; models, vectors, searches,
    failures and gates are real. Exit code 1 when a query failed, an item was lost or a gate was wrong.
    """
    from embedcore.demo.run import DemoOptions, run_demo

    options = DemoOptions(
        items=items,
        seed=seed,
        queries=queries,
        rate=rate,
        time_scale=time_scale,
        report=report,
        keep=keep,
        kill=kill,
        refusals=refusals,
    )
    outcome = run_demo(options, quiet=session.out.as_json)
    if session.out.as_json:
        session.out.document(outcome.document())
    if not outcome.passed:
        raise typer.Exit(1)
