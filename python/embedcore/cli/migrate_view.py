"""How a migration looks: a status, a live display that follows it, its events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from embedcore.cli.durations import duration, rate
from embedcore.cli.output import Output, one_line, table_of
from embedcore.migration_types import MigrationEvent, MigrationStatus

if TYPE_CHECKING:
    from embedcore.api import PlatformApi

# Without a terminal a line is written at each change of phase, and at least for each such step of coverage.
_COVERAGE_STEP = 0.05


def show_status(out: Output, status: MigrationStatus, done: str = "") -> None:
    """The status as JSON, or as a page; ``done``: what was just done, said first."""
    if out.as_json:
        out.document(status)
        return
    if done:
        out.say(done)
    out.console.print(status_view(status))


def status_view(status: MigrationStatus) -> Group:
    """The page of one status."""
    return Group(Text(headline(status)), consumer_table(status), *_remarks(status))


def headline(status: MigrationStatus) -> str:
    """One line: phase, coverage, rate, window."""
    m = status.migration
    parts = [
        f"{m.id}: generation {m.source} -> {m.target} ({m.target_model})",
        m.phase.value + (" (paused)" if m.paused else ""),
        f"coverage {status.coverage:.1%} of {status.live_items}",
    ]
    if status.eta_seconds is not None and status.coverage < 1 and not m.finished:
        parts.append(f"backfill {rate(status.backfill_rate)}, done in {duration(status.eta_seconds)}")
    if status.window_left_seconds is not None and not m.finished and m.cutover_at is None:
        parts.append(f"window {duration(status.window_left_seconds)} left")
    if status.simulated_time:
        parts.append("simulated time")
    return ", ".join(parts)


def consumer_table(status: MigrationStatus) -> Table:
    """Per consumer: weight, canary, shadow, gates met, what holds it."""
    rows = []
    for name, p in status.migration.consumers.items():
        met = sum(gate.passed for gate in p.gates.values())
        missing = [gate.gate for gate in p.gates.values() if not gate.passed]
        rows.append(
            (
                name,
                f"{p.weight:.0%}" + (" reverted" if p.reverted else ""),
                "-" if p.canary_since is None else duration(status.now - p.canary_since),
                "-" if p.shadow_since is None else f"{p.shadow_compared} ({p.shadow_overlap:.0%} common)",
                f"{met}/{len(p.gates)}" + (f" without {', '.join(missing)}" if missing else ""),
                one_line(p.held),
            )
        )
    return table_of(("consumer", "weight", "canary since", "shadow", "gates met", "held by"), rows)


def _remarks(status: MigrationStatus) -> list[Text]:
    remarks = []
    if status.repair_queue:
        remarks.append(f"repair queue: {status.repair_queue}")
    if status.corrupt_shards:
        remarks.append(f"corrupt shards: {', '.join(map(str, status.corrupt_shards))}")
    if not status.migration.finished and status.migration.cutover_at is None:
        remarks += [f"before cutover: {one_line(blocker)}" for blocker in status.cutover_blockers]
    if status.dual_writes:
        remarks.append(f"vectors computed for the target so far: {status.dual_writes}")
    return [Text(remark) for remark in remarks]


def follow(out: Output, platform: PlatformApi, migration: str) -> MigrationStatus | None:
    """Shows every status until the migration has ended: live on a terminal, otherwise a line per change
    (JSON lines with ``--json``). Returns the last status."""
    last: MigrationStatus | None = None
    if out.as_json:
        for last in platform.watch_migration(migration):
            out.document(last, lines=True)
        return last
    if out.terminal and out.console.is_terminal:
        with Live(console=out.console, auto_refresh=False) as live:
            for last in platform.watch_migration(migration):
                live.update(status_view(last), refresh=True)
        return last
    shown: tuple[Any, ...] = ()
    for last in platform.watch_migration(migration):
        weights = tuple((name, p.weight, p.reverted) for name, p in last.migration.consumers.items())
        change = (
            last.migration.phase,
            last.migration.paused,
            int(last.coverage / _COVERAGE_STEP),
            weights,
        )
        if change != shown:
            shown = change
            text = ", ".join(f"{name} {weight:.0%}" for name, weight, _ in weights)
            out.say(headline(last) + (f" [{text}]" if text else ""))
    return last


def summary_row(status: MigrationStatus) -> tuple[Any, ...]:
    """A row of ``migrate list``."""
    m = status.migration
    coverage = f"{status.coverage:.1%}"
    return (m.id, m.source, m.target, m.target_model, m.phase.value, coverage, m.created_by)


def event_rows(events: Sequence[MigrationEvent]) -> list[tuple[Any, ...]]:
    """Rows of ``migrate events``."""
    return [(e.number, at_text(e.at), e.who, e.what, one_line(e.why)) for e in events]


def at_text(seconds: float) -> str:
    """A moment of the platform's clock, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
