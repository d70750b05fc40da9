"""``embedcore migrate``: start a migration, watch it, steer it, and every way out of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedcore.cli import parse
from embedcore.cli.context import Session, command, whoami
from embedcore.cli.migrate_view import event_rows, follow, show_status, summary_row
from embedcore.config import load_config
from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.migration_types import DAY, MigrationStatus, Phase, Plan

if TYPE_CHECKING:
    from embedcore.api import PlatformApi

Id = Annotated[str, typer.Argument(metavar="[ID]", help="Of the migration; the latest by default.")]
IdOption = Annotated[str, typer.Option("--id", help="Of the migration; the latest by default.")]
Who = Annotated[str | None, typer.Option("--who", help="Recorded; your user name by default.")]
Why = Annotated[str, typer.Option("--why", help="Recorded.")]
Override = Annotated[
    str, typer.Option("--override", metavar="REASON", help="Do it although a gate is not met; recorded.")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Replace the embedding model under live traffic.", no_args_is_help=True)
    for name, function in (
        ("start", start),
        ("status", status),
        ("watch", watch),
        ("list", list_migrations),
        ("events", events),
        ("gates", gates),
        ("weight", weight),
        ("pause", pause),
        ("resume", resume),
        ("extend", extend),
        ("revert", revert),
        ("cutover", cutover),
        ("rollback", rollback),
        ("abort", abort),
        ("decommission", decommission),
    ):
        command(group, name)(function)
    app.add_typer(group, name="migrate")


def start(
    session: Session,
    model: Annotated[str, typer.Argument(help="The target: a registered or built-in model.")],
    plan: Annotated[
        str | None, typer.Option("--plan", help="JSON or a JSON/TOML file; what it leaves out is default.")
    ] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="strict or non-inferior.")] = None,
    margin: Annotated[float | None, typer.Option("--margin", min=0, max=1)] = None,
    window_days: Annotated[float | None, typer.Option("--window-days", min=0)] = None,
    backfill_rate: Annotated[
        float | None, typer.Option("--backfill-rate", min=0, help="Items per second; 0: unlimited.")
    ] = None,
    auto_cutover: Annotated[
        bool | None, typer.Option("--auto-cutover/--no-auto-cutover", help="Cut over when all gates are met.")
    ] = None,
    auto_advance: Annotated[
        bool | None, typer.Option("--auto-advance/--no-auto-advance", help="Follow the plan's steps.")
    ] = None,
    unified: Annotated[bool | None, typer.Option("--unified/--no-unified", help="All together.")] = None,
    watching: Annotated[bool, typer.Option("--watch", help="Then follow it to its end.")] = False,
    who: Who = None,
    why: Why = "",
    override: Override = "",
) -> None:
    """Run the pre-flight, then attach the target: from then on writes go to both generations."""
    changes: dict[str, Any] = {
        "policy": policy,
        "margin": margin,
        "window_seconds": None if window_days is None else window_days * DAY,
        "backfill_rate": backfill_rate,
        "auto_cutover": auto_cutover,
        "auto_advance": auto_advance,
        "unified": unified,
    }
    wanted = _plan(plan) | {key: value for key, value in changes.items() if value is not None}
    full = parse.document(Plan, wanted, "plan")
    with session.platform() as platform:
        _require_server(platform, watching)
        _register_builtin(platform, model)
        found = platform.start_migration(model, full, who=who or whoami(), why=why, override=override)
        if not watching:
            show_status(session.out, found, f"migration {found.migration.id} started")
            return
        _watch(session, platform, found.migration.id)


def _plan(given: str | None) -> dict[str, Any]:
    if given is None:
        return {}
    value = load_config(Path(given)) if given.endswith(".toml") else parse.json_value(given, "--plan")
    if not isinstance(value, dict):
        raise InvalidArgument(f"--plan holds a {type(value).__name__}; give an object of plan settings")
    return value


def _require_server(platform: PlatformApi, watching: bool) -> None:
    """A migration advances while a process has the directory open; this one is about to end."""
    from embedcore.remote import RemotePlatform

    if not watching and not isinstance(platform, RemotePlatform):
        raise FailedPrecondition(
            "no server has this data directory open, so nothing would carry the migration on: run"
            " `embedcore serve` first, or add --watch to stay until it has ended"
        )


def _register_builtin(platform: PlatformApi, model: str) -> None:
    from embedcore.encoders import builtin_models

    builtin = builtin_models().get(model)
    if builtin is not None and model not in {spec.name for spec in platform.models()}:
        platform.register_model(builtin)


def status(session: Session, migration: Id = "") -> None:
    """Where a migration stands."""
    with session.platform() as platform:
        show_status(session.out, platform.migration(migration))


def watch(session: Session, migration: Id = "") -> None:
    """Follow a migration to its end; exit code 1 when it ends otherwise than done."""
    with session.platform() as platform:
        _watch(session, platform, migration)


def _watch(session: Session, platform: PlatformApi, migration: str) -> None:
    last = follow(session.out, platform, migration)
    if last is not None and last.migration.finished and last.migration.phase is not Phase.DONE:
        session.out.note(f"migration {last.migration.id} ended as {last.migration.phase.value}")
        raise typer.Exit(1)


def list_migrations(session: Session) -> None:
    """All migrations, latest first."""
    with session.platform() as platform:
        found = platform.migrations()
    columns = ("id", "source", "target", "model", "phase", "coverage", "started by")
    session.out.table(columns, [summary_row(s) for s in found], data=found)


def events(
    session: Session,
    migration: Id = "",
    after: Annotated[int, typer.Option("--after", min=0, help="Only later numbers.")] = 0,
    what: Annotated[str | None, typer.Option("--what", help="Only this kind, e.g. weight.")] = None,
) -> None:
    """Every recorded transition: who, when, why; --json has the evidence."""
    with session.platform() as platform:
        found = [e for e in platform.migration_events(migration, after) if what in (None, e.what)]
    session.out.table(("", "at (UTC)", "who", "what", "why"), event_rows(found), data=found)


def gates(
    session: Session,
    migration: Id = "",
    consumer: Annotated[str | None, typer.Option("--consumer", "-c")] = None,
) -> None:
    """The latest verdict of every gate of every consumer; exit code 1 when one is not met."""
    with session.platform() as platform:
        found = platform.migration(migration)
    chosen = {
        name: progress.gates
        for name, progress in found.migration.consumers.items()
        if consumer in (None, name)
    }
    rows = [
        (name, gate.gate, "met" if gate.passed else "NOT MET", gate.summary)
        for name, results in chosen.items()
        for gate in results.values()
    ]
    session.out.table(("consumer", "gate", "", "evidence"), rows, data=chosen)
    if any(not gate.passed for results in chosen.values() for gate in results.values()):
        raise typer.Exit(1)


def weight(
    session: Session,
    consumer: Annotated[str, typer.Argument(help="Whose reads.")],
    value: Annotated[float, typer.Argument(min=0, max=1, help="0: source alone, 1: target alone.")],
    migration: IdOption = "",
    who: Who = None,
    why: Why = "",
    override: Override = "",
) -> None:
    """Set one consumer's weight; takes effect within a second."""
    with session.platform() as platform:
        found = platform.set_weight(
            migration, consumer, value, who=who or whoami(), why=why, override=override
        )
    show_status(session.out, found, f"{consumer} reads with weight {value:g}")


def pause(session: Session, migration: Id = "", who: Who = None, why: Why = "") -> None:
    """Hold backfill and plan; dual-write goes on."""
    _steer(session, lambda p, by: p.pause_migration(migration, who=by, why=why), who, "paused")


def resume(session: Session, migration: Id = "", who: Who = None, why: Why = "") -> None:
    """Go on after a pause."""
    _steer(session, lambda p, by: p.resume_migration(migration, who=by, why=why), who, "resumed")


def extend(
    session: Session,
    days: Annotated[float, typer.Argument(help="From the window's end, or from now when it is over.")],
    why: Annotated[str, typer.Option("--why", help="What the days are paid for; recorded.")],
    migration: IdOption = "",
    who: Who = None,
) -> None:
    """Give the migration window more days, on record."""
    done = f"the window is {days:g} days longer"
    _steer(session, lambda p, by: p.extend_window(migration, days * DAY, who=by, why=why), who, done)


def revert(
    session: Session,
    consumer: Annotated[str, typer.Argument(help="Who goes back.")],
    migration: IdOption = "",
    who: Who = None,
    why: Why = "",
) -> None:
    """Put one consumer back on the source within a second, alone."""
    done = f"{consumer} reads from the source"
    _steer(session, lambda p, by: p.revert_consumer(migration, consumer, who=by, why=why), who, done)


def cutover(
    session: Session, migration: Id = "", who: Who = None, why: Why = "", override: Override = ""
) -> None:
    """End blending: every consumer reads from the target alone."""
    _steer(
        session,
        lambda p, by: p.cutover(migration, who=by, why=why, override=override),
        who,
        "cut over; the source is kept and written through the grace period",
    )


def rollback(session: Session, migration: Id = "", who: Who = None, why: Why = "") -> None:
    """Put all consumers back on the source; dual-write goes on."""
    _steer(
        session,
        lambda p, by: p.rollback(migration, who=by, why=why),
        who,
        "rolled back: all consumers read from the source",
    )


def abort(session: Session, migration: Id = "", who: Who = None, why: Why = "") -> None:
    """Roll back, then stop and drop the target."""
    _steer(
        session,
        lambda p, by: p.abort_migration(migration, who=by, why=why),
        who,
        "aborted: the target is dropped",
    )


def decommission(
    session: Session, migration: Id = "", who: Who = None, why: Why = "", override: Override = ""
) -> None:
    """After the grace period: reclaim the source's storage."""
    _steer(
        session,
        lambda p, by: p.decommission(migration, who=by, why=why, override=override),
        who,
        "the source is decommissioned",
    )


def _steer(
    session: Session,
    action: Callable[[PlatformApi, str], MigrationStatus],
    who: str | None,
    done: str,
) -> None:
    with session.platform() as platform:
        found = action(platform, who or whoami())
    show_status(session.out, found, done)
