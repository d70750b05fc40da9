"""``embedcore eval calibrate``: ef_search of a consumer, scores of one generation on another's scale."""

from __future__ import annotations

from typing import Annotated

import typer

from embedcore.cli.context import Session, command
from embedcore.errors import FailedPrecondition


def register(group: typer.Typer) -> None:
    calibrate = typer.Typer(help="Measured settings: ef_search, score calibration.", no_args_is_help=True)
    command(calibrate, "ef")(ef)
    command(calibrate, "scores")(scores)
    group.add_typer(calibrate, name="calibrate")


def ef(
    session: Session,
    consumer: Annotated[
        list[str] | None, typer.Option("--consumer", "-c", help="Repeatable; all by default.")
    ] = None,
    generation: Annotated[int, typer.Option("--generation", min=0, help="0: the serving one.")] = 0,
    apply: Annotated[bool, typer.Option("--apply", help="Search with it from now on.")] = False,
) -> None:
    """The smallest ef_search whose recall against exact search reaches index_recall with 95% confidence.

    Exit 1 when not even the widest does.
    """
    with session.platform() as platform:
        names = consumer or [one.name for one in platform.consumers()]
        found = [
            platform.calibrate_ef(name, generation, apply=apply)
            for name in session.out.each("calibrating", names)
        ]
    rows = []
    for one in found:
        chosen, now = one["chosen"], one["now"]
        rows.append(
            (
                one["consumer"],
                one["generation"],
                one["target"],
                now["ef_search"],
                f"{now['recall']:.4f} (> {now['lower']:.4f})",
                f"{now['p50_ms']:.2f} / {now['p95_ms']:.2f}",
                one["ef_search"],
                None if chosen is None else f"{chosen['recall']:.4f} (> {chosen['lower']:.4f})",
                None if chosen is None else f"{chosen['p50_ms']:.2f} / {chosen['p95_ms']:.2f}",
                "applied" if one["applied"] else "",
            )
        )
    columns = (
        *("consumer", "generation", "target", "ef now", "recall now", "p50 / p95 ms now"),
        *("ef that is enough", "recall", "p50 / p95 ms", ""),
    )
    session.out.table(columns, rows, data=found)
    short = [one["consumer"] for one in found if one["ef_search"] is None]
    if short:
        raise FailedPrecondition(
            f"no ef_search reaches the index recall of {', '.join(short)}: rebuild the index, or ask for less"
        )


def scores(
    session: Session,
    source: Annotated[int, typer.Option("--source", min=1, help="Generation.")],
    target: Annotated[int, typer.Option("--target", min=1, help="Generation.")],
) -> None:
    """Fit source distances onto the target's scale, and keep the map with the target generation."""
    with session.out.progress("fitting", None), session.platform() as platform:
        found = platform.calibrate_scores(source, target)
    text = (
        f"generation {source} onto {target}: fitted on {found['pairs']} {found['method']} of "
        f"{found['queries']} queries, root mean square error {found['error']:.4f}"
    )
    session.out.result(found, text)
