"""``embedcore eval simulate``: how often the gates decide rightly, by simulation."""

from __future__ import annotations

from typing import Annotated

import typer

from embedcore.cli.context import Session, command
from embedcore.errors import InvalidArgument


def register(group: typer.Typer) -> None:
    command(group, "simulate", reaches=())(simulate)


def simulate(
    session: Session,
    runs: Annotated[int, typer.Option("--runs", min=10, help="Golden sets drawn per shift.")] = 2_000,
    resamples: Annotated[int, typer.Option("--resamples", min=100, help="Bootstrap draws each.")] = 2_000,
    corpus: Annotated[
        str,
        typer.Option("--corpus", help="How models differ: as measured on the demo's corpus, or the whole."),
    ] = "demo",
    queries: Annotated[int, typer.Option("--queries", min=30, help="Of each golden set.")] = 4_000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Pass rates of both policies at true shifts of -2 to +2 pp, and the error of the sequential test."""
    from embedcore.evaluation.populations import populations
    from embedcore.evaluation.simulation import sequential_error, study

    if corpus not in ("demo", "whole"):
        raise InvalidArgument(f"--corpus {corpus}: there are demo and whole")
    chosen = populations("whole" if corpus == "whole" else "demo", queries)
    with session.out.progress("simulating", None):
        found = study(chosen, runs=runs, resamples=resamples, seed=seed)
        found["sequential"] = sequential_error(
            runs=runs, looks=200, batch=100, rate=0.3, fall=0.02, seed=seed
        )
    names = list(found["queries"])
    rows = [
        (
            row["policy"],
            f"{row['shift'] * 100:+.0f} pp",
            *(f"{row['consumer'][name]:.1%}" for name in names),
            f"{row['one_shifted']:.1%}",
            f"{row['all_shifted']:.1%}",
        )
        for row in found["rows"]
    ]
    session.out.table(
        ("policy", "true shift", *names, "one of four shifted", "all four shifted"),
        rows,
        data=found,
        title=f"gates passed, of {runs} simulated comparisons",
    )
    errors = ", ".join(f"{name} {value * 100:.2f} pp" for name, value in found["standard_error"].items())
    looked = found["sequential"]
    session.out.say(f"standard error of the difference: {errors}")
    session.out.say(
        f"sequential test, true fall equal to the margin, {looked['looks']:.0f} looks: passes at any of them "
        f"in {looked['confidence_sequence']:.1%} (a fixed-sample bound: {looked['fixed_sample']:.1%})"
    )
