"""What a demo came to: everything it measured, what must hold, and the table at its end."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from embedcore.cli.durations import duration
from embedcore.cli.output import console_for, plain, table_of
from embedcore.demo.acts import Refusal
from embedcore.demo.oracle import Verdict
from embedcore.demo.processes import Outage
from embedcore.demo.scenario import DemoOptions
from embedcore.demo.summary import (
    ALL,
    OUTAGE,
    QueryRecord,
    Sample,
    checks_of,
    failed_outside,
    latency_rows,
    live_recall,
    lowest_blended,
    phase_times,
)
from embedcore.migration_types import MigrationEvent, MigrationStatus, Phase

SIMULATED = (
    "Time is simulated (a week passes in minutes), and so are the users' clicks, drawn by a position model"
    " over answers that were really served. Models, vectors, searches, writes, failures, gates and recall are"
    " real."
)


class Must(NamedTuple):
    """Something that has to hold, whether it did, and the figure that says so."""

    what: str
    held: bool
    found: str


@dataclass
class Outcome:
    """Filled act by act. ``before`` and ``after``: evaluations by consumer."""

    options: DemoOptions
    told: str
    items: int
    source: str
    target: str
    scales: list[float] = field(default_factory=list)
    before: dict[str, dict[str, Any]] = field(default_factory=dict)
    after: dict[str, dict[str, Any]] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    records: list[QueryRecord] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    events: list[MigrationEvent] = field(default_factory=list)
    canary: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    revert: dict[str, float] | None = None
    verdict: Verdict | None = None
    preflight_seconds: float = 0.0
    seconds: float = 0.0
    exit_code: int | None = None
    report: Path | None = None
    _status: MigrationStatus | None = None

    @property
    def status(self) -> MigrationStatus:
        """The last status of the migration."""
        assert self._status is not None, "the migration has not been followed yet"
        return self._status

    @status.setter
    def status(self, status: MigrationStatus) -> None:
        self._status = status

    def musts(self) -> list[Must]:
        """What the demo exists to show."""
        failed = failed_outside(self.records)
        first = f", first: {failed[0].failed}" if failed else ""
        sent = sum(record.phase != OUTAGE for record in self.records)
        verdict = self.verdict or Verdict(0, 0, 0, 0)
        lost = f", first: {verdict.losses[0].id}: {verdict.losses[0].what}" if verdict.losses else ""
        musts = [
            Must(
                "migration ended as done",
                self.status.migration.phase is Phase.DONE,
                self.status.migration.phase,
            ),
            Must("queries failed: 0", sent > 0 and not failed, f"{len(failed)} of {sent}{first}"),
            Must(
                "items lost: 0",
                verdict.items > 0 and not verdict.losses,
                f"{len(verdict.losses)} of {verdict.items}, {verdict.acknowledged} writes acknowledged{lost}",
            ),
            Must("server drained and ended with 0", self.exit_code == 0, f"exit code {self.exit_code}"),
            Must("every act was played", not self.errors, "; ".join(self.errors) or "yes"),
        ]
        for refusal in self.refusals:
            if refusal.must:
                found = "refused by a gate" if refusal.refused else refusal.message
                musts.append(Must(f"{refusal.model} refused", refusal.refused, found))
        if self.options.kill:
            musts.append(Must("server killed with -9 came back", bool(self.outages), self._outage_text()))
        return musts

    @property
    def passed(self) -> bool:
        return all(must.held for must in self.musts())

    def recall_rows(self) -> list[tuple[Any, ...]]:
        """Per consumer: metric, before, lowest while blended with the source on the same queries, after."""
        lowest = lowest_blended(checks_of(self.events))
        rows = []
        for name, before in self.before.items():
            after, low = self.after.get(name, {}), lowest.get(name)
            blended = None
            if low is not None:
                blended = f"{low.metric:.3f} at {low.weight:.0%} (source {low.source:.3f})"
            difference = None if not after else after["metric"] - before["metric"]
            shown = None if difference is None else f"{difference * 100:+.1f} pp"
            rows.append((name, before["metric_name"], before["metric"], blended, after.get("metric"), shown))
        return rows

    def phase_rows(self) -> list[tuple[Any, ...]]:
        """Per phase: simulated and real time, queries, failures, percentiles in ms."""
        times = {time.phase: time for time in phase_times(self.samples)}
        rows = []
        for row in latency_rows(self.records):
            if row.consumer != ALL:
                continue
            time = times.get(row.phase)
            rows.append(
                (
                    row.phase,
                    "-" if time is None else duration(time.simulated_seconds),
                    "-" if time is None else duration(time.real_seconds),
                    row.sent,
                    row.failed,
                    *(None if value is None else round(value, 1) for value in (row.p50, row.p95, row.p99)),
                )
            )
        return rows

    def _outage_text(self) -> str:
        if not self.outages:
            return "it was never killed"
        hit = [record for record in self.records if record.phase == OUTAGE]
        down = sum(outage.ended - outage.began for outage in self.outages)
        unanswered = sum(record.failed is not None for record in hit)
        answered = len(hit) - unanswered
        return f"down {down:.1f} s; {len(hit)} queries met it, {answered} answered, {unanswered} not"

    def _scale_text(self) -> str:
        slow, fast = min(self.scales, default=1.0), max(self.scales, default=1.0)
        return f"time x {fast:.0f}" if slow == fast else f"time x {slow:.0f} to {fast:.0f}"

    def facts(self) -> list[str]:
        """Lines below the tables."""
        lines = [
            f"{self.told}; {self.source} -> {self.target}; {self._scale_text()};"
            f" {os.cpu_count()} cores; Python {platform.python_version()}; {self.seconds:.0f} s in all",
        ]
        plan = self.status.migration.plan
        lines.append(
            f"plan as by default, but with the shadow on {plan.shadow_share:.0%} of queries and an evaluation"
            f" every {duration(plan.evaluate_every_seconds)} of simulated time: traffic and machine are"
            " small"
        )
        lines.append(
            f"traffic: {self.options.rate:g} queries/s and {self.options.write_rate:g} writes/s;"
            f" {self.options.fresh:.0%} of the queries are spelled as no cache holds them, hence encoded"
        )
        lines += [
            f"{name}: quality target taken from the measured source baseline, {target:.3f}"
            for name, target in self.targets.items()
        ]
        if self.revert is not None:
            lines.append(f"revert of one consumer: in effect after {self.revert['effective_ms']:.0f} ms")
        if self.outages:
            lines.append(f"kill -9: {self._outage_text()}")
        lines += [refusal.told for refusal in self.refusals]
        return lines

    def show(self) -> None:
        """The tables at the end, on stdout."""
        console = console_for(sys.stdout)
        console.print()
        columns = ("consumer", "metric", "before", "lowest while blended", "after", "difference")
        console.print(table_of(columns, [_rounded(row) for row in self.recall_rows()]))
        console.print()
        phases = ("phase", "simulated", "real", "queries", "failed", "p50 ms", "p95 ms", "p99 ms")
        console.print(table_of(phases, self.phase_rows()))
        console.print()
        for line in self.facts():
            console.print(Text(line))
        console.print()
        for must in self.musts():
            console.print(Text(f"{'ok  ' if must.held else 'FAIL'} {must.what} ({must.found})"))
        console.print(Text(SIMULATED))
        if self.report is not None:
            console.print(Text(f"report: {self.report}"))

    def document(self) -> dict[str, Any]:
        """Everything but the single queries, JSON-serialisable."""
        per_query = {"per_query"}
        return {
            "passed": self.passed,
            "musts": [must._asdict() for must in self.musts()],
            "simulated": SIMULATED,
            "corpus": self.told,
            "items": self.items,
            "source": self.source,
            "target": self.target,
            "seed": self.options.seed,
            "time_scales": self.scales,
            "seconds": self.seconds,
            "cores": os.cpu_count(),
            "preflight_seconds": self.preflight_seconds,
            "before": {n: {k: v for k, v in d.items() if k not in per_query} for n, d in self.before.items()},
            "after": {n: {k: v for k, v in d.items() if k not in per_query} for n, d in self.after.items()},
            "targets": self.targets,
            "lowest_blended": plain(lowest_blended(checks_of(self.events))),
            "latency": plain(latency_rows(self.records)),
            "live_recall": live_recall(self.records),
            "phases": plain(phase_times(self.samples)),
            "outages": plain(self.outages),
            "oracle": plain(self.verdict),
            "canary": plain(self.canary),
            "revert": self.revert,
            "refusals": plain(self.refusals),
            "migration": plain(self.status),
            "report": None if self.report is None else str(self.report),
        }


def _rounded(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(f"{value:.3f}" if isinstance(value, float) else value for value in row)
