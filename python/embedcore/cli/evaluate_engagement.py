"""``embedcore eval engagement``: what users did with the answers, reported and compared."""

from __future__ import annotations

from typing import Annotated

import typer

from embedcore.cli.context import Session, command
from embedcore.errors import GateNotMet, InvalidArgument

Consumer = Annotated[str, typer.Option("--consumer", "-c")]
Migration = Annotated[str, typer.Option("--migration", help="Its id; default: the latest.")]


def register(group: typer.Typer) -> None:
    engagement = typer.Typer(help="Canary against control, on users' behaviour.", no_args_is_help=True)
    command(engagement, "report")(report)
    command(engagement, "compare")(compare)
    group.add_typer(engagement, name="engagement")


def report(
    session: Session,
    consumer: Consumer,
    arm: Annotated[str, typer.Option("--arm", help="control or canary, as the answers said.")],
    impressions: Annotated[int, typer.Option("--impressions", min=0)] = 0,
    clicks: Annotated[int, typer.Option("--clicks", min=0, help="Impressions with a click.")] = 0,
    depth: Annotated[float, typer.Option("--depth", min=0, help="Sum over sessions.")] = 0.0,
    depth_squared: Annotated[float, typer.Option("--depth-squared", min=0, help="Sum of squares.")] = 0.0,
    compared: Annotated[int, typer.Option("--compared", min=0, help="Decisions compared.")] = 0,
    agreed: Annotated[int, typer.Option("--agreed", min=0, help="Decisions made alike.")] = 0,
    simulated: Annotated[bool, typer.Option("--simulated", help="Not of real users.")] = False,
    migration: Migration = "",
) -> None:
    """Add to the totals of an arm since the last report."""
    given = {
        "impressions": impressions,
        "clicks": clicks,
        "depth": depth,
        "depth_squared": depth_squared,
        "compared": compared,
        "agreed": agreed,
    }
    totals = {name: float(value) for name, value in given.items() if value}
    if not totals:
        raise InvalidArgument("nothing to report: give --impressions and --clicks, or another total")
    if clicks > impressions or agreed > compared:
        raise InvalidArgument("clicks cannot exceed impressions, nor agreed decisions those compared")
    with session.platform() as platform:
        platform.report_engagement(consumer, arm, totals, simulated=simulated, migration_id=migration)
    session.out.result({"consumer": consumer, "arm": arm, "totals": totals}, f"{consumer}: {arm} reported")


def compare(
    session: Session,
    consumer: Consumer,
    migration: Migration = "",
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when the gate is not met.")] = False,
) -> None:
    """The canary's verdict, valid at every look; beside it what was predicted before it began."""
    with session.platform() as platform:
        found = platform.compare_engagement(consumer, migration)
    prediction = found.get("prediction")
    lines = [str(found.get("summary", ""))]
    if prediction:
        bounds = (
            f" [{prediction['lower']:+.2%}, {prediction['upper']:+.2%}]"
            if prediction["lower"] is not None
            else " (too few canaries so far for an interval)"
        )
        lines.append(f"predicted lift {prediction['predicted']:+.2%}{bounds}")
        if prediction["observed"] is not None:
            within = {True: ", as predicted", False: ", outside the prediction", None: ""}
            lines.append(f"observed lift {prediction['observed']:+.2%}{within[prediction['inside']]}")
    session.out.result(found, "\n".join(lines))
    if check and not found.get("passed"):
        raise GateNotMet(str(found.get("summary", "")), {"evidence": [found]})
