"""``embedcore backup`` and ``restore``; ``schema``: the version of a store, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedcore.cli.context import Session, command
from embedcore.errors import FailedPrecondition
from embedcore.resources import size_text


def register(app: typer.Typer) -> None:
    command(app, "backup")(backup)
    command(app, "restore", reaches=("data",))(restore)
    command(app, "schema", reaches=("data",))(schema)


def backup(
    session: Session,
    destination: Annotated[
        str,
        typer.Argument(help="A new directory, or an fsspec URL; a server's own machine writes it."),
    ],
) -> None:
    """Copy the data directory, consistently, while it is served; exit code 1 if the copy has problems."""
    where = destination if "://" in destination else str(Path(destination).absolute())
    with session.platform() as platform, session.out.transfer() as report:
        from embedcore.platform import Platform

        if isinstance(platform, Platform):
            manifest = platform.backup(where, progress=report)
        else:
            manifest = platform.backup(where)
    total = sum(file["bytes"] for file in manifest["files"])
    snapshots = len(manifest["files"]) - 1
    problems = manifest["problems"]
    session.out.result(
        {"destination": where, **manifest},
        f"{where}: {manifest['live_items']} items, snapshots: {snapshots}, {size_text(total)}",
    )
    for problem in problems:
        session.out.note(f"problem: {problem}")
    if problems:
        session.out.note("the backup holds what the store holds, problems included: see `embedcore verify`")
        raise typer.Exit(1)


def restore(
    session: Session,
    source: Annotated[str, typer.Argument(help="A backup: a directory or an fsspec URL.")],
) -> None:
    """Make a new data directory of a backup, after verifying all of it."""
    from embedcore.store.restore import restore_backup

    with session.out.transfer() as report:
        manifest = restore_backup(source, session.data_dir, progress=report)
    found = [f"{one['number']} {one['model']} ({one['state']})" for one in manifest["generations"]]
    session.out.result(
        {"data": str(session.data_dir), **manifest},
        f"{manifest['live_items']} items restored to {session.data_dir};"
        f" generations: {', '.join(found) or 'none'}",
    )


def schema(
    session: Session,
    to: Annotated[
        int | None,
        typer.Option("--to", min=1, help="Take the store back to this version, for the embedcore before."),
    ] = None,
) -> None:
    """Show the schema version of a data directory that nobody serves, or take it back by one version."""
    from embedcore.store.ownership import Ownership
    from embedcore.store.schema_steps import change_version
    from embedcore.store.sql_store import DATABASE_FILE

    if not session.data_dir.is_dir():
        raise FailedPrecondition(f"there is no data directory {session.data_dir}: name one with --data")
    ownership = Ownership.acquire(session.data_dir)
    try:
        before, after = change_version(session.data_dir / DATABASE_FILE, to)
    finally:
        ownership.release()
    text = f"schema version {after}" if before == after else f"schema version {before} taken to {after}"
    session.out.result({"data": str(session.data_dir), "before": before, "version": after}, text)
