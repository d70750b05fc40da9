"""``embedcore snapshot`` and ``embedcore verify``: what lies on the disk, made and checked."""

from __future__ import annotations

from typing import Annotated

import typer

from embedcore.cli.context import Session, command


def register(app: typer.Typer) -> None:
    command(app, "snapshot")(snapshot)
    command(app, "verify")(verify)


def snapshot(session: Session) -> None:
    """Save every index now, so that the next start replays little; searches and writes go on."""
    with session.out.progress("saving", None), session.platform() as platform:
        taken = platform.snapshot()
    rows = [(one.generation, one.shard, one.watermark, one.bytes, one.path) for one in taken]
    session.out.table(("generation", "shard", "watermark", "bytes", "file"), rows, data=taken)


def verify(
    session: Session,
    sample: Annotated[
        int, typer.Option("--sample", min=0, help="Vectors of each index that are compared bit by bit.")
    ] = 1000,
) -> None:
    """Check store, snapshots and indexes against each other; lists all problems, exit code 1 if any."""
    with session.out.progress("verifying", None), session.platform(keep=True) as platform:
        report = platform.verify(sample)
    problems = report["problems"]
    if session.out.as_json:
        session.out.document(report)
    else:
        rows = [
            (one["what"], one["items"], one.get("compared", ""), one.get("watermark", ""))
            for one in report["checked"]
        ]
        session.out.table(("checked", "items", "compared", "watermark"), rows, data=report)
        for problem in problems:
            session.out.say(f"problem: {problem}")
        session.out.say(f"{len(problems)} problems" if problems else "no problems")
    if problems:
        raise typer.Exit(1)
