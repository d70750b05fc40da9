"""The report: one HTML file that needs nothing else. Every text from outside is escaped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from embedcore.cli.durations import duration
from embedcore.cli.output import plain
from embedcore.demo import plots
from embedcore.demo.outcome import SIMULATED, Outcome
from embedcore.demo.summary import ALL, checks_of, latency_rows
from embedcore.evaluation.reporting.tables import STYLE, cell, table
from embedcore.migration_types import DAY

_EVENTS_SHOWN = 400
# Checks that repeat every few seconds; the JSON beside the report has them all.
_QUIET_EVENTS = frozenset({"evaluation", "consistency"})

_PAGE = Template(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2024 }
body { max-width: 980px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem }
p.lead { color: #4a5258; margin-top: .3rem }
.ok { color: #256b3a; font-weight: 600 } .bad { color: #a82319; font-weight: 600; white-space: nowrap }
.wide { overflow-x: auto }
</style>
<h1>$title</h1>
<p class="lead">$lead</p>
<p class="note"><b>Simulated and real.</b> $simulated</p>
$body
</html>
"""
)


def write_report(outcome: Outcome, path: Path) -> Path:
    """Writes the page, and everything it rests on as JSON beside it (``.json``). Returns the page's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(outcome), encoding="utf-8")
    data = outcome.document() | {
        "samples": plain(outcome.samples),
        "events": plain(outcome.events),
    }
    path.with_suffix(".json").write_text(json.dumps(data, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def render(outcome: Outcome) -> str:
    """The page."""
    body = [
        _section("What had to hold", _musts(outcome)),
        _section("Recall per consumer", _recall(outcome), _recall_plots(outcome)),
        _section(
            "Latency, as the client saw it",
            _latency(outcome),
            plots.latency_plot(latency_rows(outcome.records)) if plots.available() else "",
        ),
        _section("Phases", _phases(outcome)),
        _section("Gates before the last step", _gates(outcome)),
        _section("Canary", _canary(outcome)),
        _section("Refused", _refusals(outcome)) if outcome.refusals else "",
        _section("What was recorded", _events(outcome)),
    ]
    return _PAGE.substitute(
        style=STYLE,
        title=escape(f"embedcore demo: {outcome.source} to {outcome.target} under live traffic"),
        lead="<br>".join(escape(line) for line in outcome.facts()[:1]),
        simulated=escape(SIMULATED),
        body="\n".join(body),
    )


def _section(title: str, *parts: str) -> str:
    return f"<h2>{escape(title)}</h2>\n" + "\n".join(f'<div class="wide">{p}</div>' for p in parts if p)


class _Milliseconds(float):
    """Shown with one decimal."""


def _cell(value: Any) -> str:
    if isinstance(value, _Milliseconds):
        return f"{value:.1f}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
    return cell(value)


_table = partial(table, show=_cell)


def _musts(outcome: Outcome) -> str:
    table = _table(("", "must", "found"), [(must.held, must.what, must.found) for must in outcome.musts()])
    notes = "<br>".join(escape(line) for line in outcome.facts()[1:])
    return f'{table}<p class="note">{notes}</p>'


def _recall(outcome: Outcome) -> str:
    columns = ("consumer", "metric", "before", "lowest while blended", "after", "difference")
    note = (
        "Before and after: the whole golden set on source and target. Lowest while blended: the periodic"
        " check with the largest loss against the source, both on the same queries."
    )
    return _table(columns, outcome.recall_rows()) + f'<p class="note">{escape(note)}</p>'


def _recall_plots(outcome: Outcome) -> str:
    if not plots.available():
        return '<p class="note">Install matplotlib for the plots.</p>'
    origin = min((record.at for record in outcome.records), default=0.0)
    note = (
        "Dots: evaluations of the blended answers on a part of the golden set. Dotted lines: the whole set on"
        " the source (left) and on the target (right). Faint: the answers of the live traffic (dedup: first"
        " answer right, without its threshold)."
    )
    return (
        plots.recall_plot(
            outcome.records,
            outcome.samples,
            checks_of(outcome.events),
            _metrics(outcome.before),
            _metrics(outcome.after),
        )
        + f'<p class="note">{escape(note)}</p>'
        + plots.weight_plot(outcome.samples, origin)
    )


def _metrics(evaluations: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    return {name: found["metric"] for name, found in evaluations.items() if found.get("metric") is not None}


def _latency(outcome: Outcome) -> str:
    rows = [
        (
            row.phase,
            "all consumers" if row.consumer == ALL else row.consumer,
            row.sent,
            row.failed,
            *(None if value is None else _Milliseconds(value) for value in (row.p50, row.p95, row.p99)),
        )
        for row in latency_rows(outcome.records)
    ]
    note = (
        f"Server, backfill, evaluations and the traffic itself shared {os.cpu_count()} cores."
        " The dashed line is the 50 ms objective (ads: 30 ms; dedup: none)."
    )
    columns = ("phase", "consumer", "queries", "failed", "p50 ms", "p95 ms", "p99 ms")
    return _table(columns, rows) + f'<p class="note">{escape(note)}</p>'


def _phases(outcome: Outcome) -> str:
    columns = ("phase", "simulated", "real", "queries", "failed", "p50 ms", "p95 ms", "p99 ms")
    rows = [
        (*row[:5], *(None if v is None else _Milliseconds(v) for v in row[5:]))
        for row in outcome.phase_rows()
    ]
    return _table(columns, rows)


def _gates(outcome: Outcome) -> str:
    rows = [
        (name, gate.gate, gate.passed, gate.summary)
        for name, progress in outcome.status.migration.consumers.items()
        for gate in progress.gates.values()
    ]
    return _table(("consumer", "gate", "", "evidence"), rows)


def _canary(outcome: Outcome) -> str:
    rows = [
        (name, told["queries"], told["canary_users"], told["verdict"].get("summary", ""))
        for name, told in sorted(outcome.canary.items())
    ]
    note = (
        "Users and clicks are simulated: each user draws one golden query uniformly, sees the answer that was"
        " really served to that query (control: the source alone, asked before blending; canary: a user"
        " whose key is in the canary), looks at rank r with probability 1/log2(1+r) and clicks by relevance,"
        " now and then by mistake. The inference is over users of this query population."
    )
    columns = ("consumer", "distinct queries per arm", "canary users", "verdict")
    return _table(columns, rows) + f'<p class="note">{escape(note)}</p>'


def _refusals(outcome: Outcome) -> str:
    parts = []
    for refusal in outcome.refusals:
        verdict = "refused" if refusal.refused else "not refused"
        rows = [(bool(g.get("passed")), g.get("gate", ""), g.get("summary", "")) for g in refusal.gates]
        parts.append(
            f"<p><b>{escape(refusal.model)}</b>: {escape(refusal.fault)}: {verdict} after"
            f" {duration(refusal.seconds)}. {escape(refusal.message)}</p>"
            + _table(("", "gate", "evidence"), rows)
        )
    return "\n".join(parts)


def _events(outcome: Outcome) -> str:
    began = outcome.status.migration.dual_write_at or outcome.status.migration.created_at
    events = [event for event in outcome.events if event.what not in _QUIET_EVENTS]
    rows = [
        (
            event.number,
            f"day {(event.at - began) / DAY:.2f}",
            datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%d %H:%M"),
            event.who,
            event.what,
            event.why,
        )
        for event in events[:_EVENTS_SHOWN]
    ]
    left = len(outcome.events) - len(rows)
    note = (
        f'<p class="note">{left} further events (periodic checks among them) are in the JSON.</p>'
        if left
        else ""
    )
    return _table(("", "plan", "platform time (UTC)", "who", "what", "why"), rows) + note
