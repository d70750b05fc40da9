"""``embedcore backfill``: how far the re-embedding of the corpus is."""

from __future__ import annotations

from typing import Annotated

import typer

from embedcore.cli.context import Session, command
from embedcore.cli.durations import duration, rate


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Re-embedding of the corpus into a migration's target.", no_args_is_help=True)
    command(group, "status")(status)
    app.add_typer(group, name="backfill")


def status(
    session: Session,
    migration: Annotated[str, typer.Argument(help="Its id; the latest by default.")] = "",
) -> None:
    """Coverage, rate, estimated end, repairs and corrupt shards."""
    with session.platform() as platform:
        found = platform.migration(migration)
    data = {
        "migration": found.migration.id,
        "phase": found.migration.phase,
        "paused": found.migration.paused,
        "coverage": found.coverage,
        "live_items": found.live_items,
        "backfilled": found.backfilled,
        "rate": found.backfill_rate,
        "eta_seconds": found.eta_seconds,
        "repair_queue": found.repair_queue,
        "corrupt_shards": found.corrupt_shards,
        "target_vectors_computed": found.dual_writes,
    }
    rows = [
        ("migration", f"{found.migration.id} ({found.migration.phase.value})"),
        ("coverage", f"{found.coverage:.2%} of {found.live_items} live items"),
        ("backfilled", found.backfilled),
        ("rate", f"{rate(found.backfill_rate)}{' of simulated time' if found.simulated_time else ''}"),
        ("estimated end", "-" if found.eta_seconds is None else f"in {duration(found.eta_seconds)}"),
        ("repair queue", found.repair_queue),
        ("corrupt shards", ", ".join(map(str, found.corrupt_shards)) or "none"),
        ("vectors computed", found.dual_writes),
    ]
    if found.migration.paused:
        rows.insert(1, ("paused", "yes: `embedcore migrate resume`"))
    session.out.table(("backfill", ""), rows, data=data)
