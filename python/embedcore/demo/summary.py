"""Figures of a demo from its records: latency per phase and consumer, live recall, failures, outages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from embedcore.demo.processes import Outage
from embedcore.demo.traffic import NO_MIGRATION
from embedcore.migration_types import MigrationEvent, MigrationStatus, Phase

OUTAGE: Final = "during the kill"
PHASE_ORDER: Final = (
    NO_MIGRATION,
    Phase.PREFLIGHT.value,
    Phase.DUAL_WRITE.value,
    Phase.BACKFILL.value,
    Phase.BLENDED.value,
    Phase.GRACE.value,
    Phase.DONE.value,
    OUTAGE,
)
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """One line of the traffic: ``at`` machine time when sent, ``ms`` until answered or failed. ``num`` of
    ``den`` relevant items found, None where the query failed."""

    at: float
    ms: float
    late_ms: float
    consumer: str
    phase: str
    failed: str | None
    weight: float | None
    num: int | None
    den: int | None


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """Milliseconds as the client saw them; of answered queries."""

    phase: str
    consumer: str
    sent: int
    failed: int
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """What the watch showed at one moment. ``real``: machine time, ``now``: the platform's."""

    real: float
    now: float
    phase: str
    coverage: float
    weights: dict[str, float]


@dataclass(frozen=True, slots=True)
class Check:
    """One evaluation of a consumer's blended answers, at the platform's time ``at``; the source on the same
    queries."""

    at: float
    consumer: str
    weight: float
    source: float
    metric: float

    @property
    def difference(self) -> float:
        return self.metric - self.source


@dataclass(frozen=True, slots=True)
class PhaseTime:
    phase: str
    real_seconds: float
    simulated_seconds: float


def read_queries(path: Path, outages: Sequence[Outage] = ()) -> list[QueryRecord]:
    """All records; a query that overlaps an outage belongs to it, whatever the phase."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        began, ended = found["at"], found["at"] + found["ms"] / 1e3
        hit = any(began < outage.ended and ended > outage.began for outage in outages)
        records.append(
            QueryRecord(
                at=began,
                ms=found["ms"],
                late_ms=found["late_ms"],
                consumer=found["consumer"],
                phase=OUTAGE if hit else found["phase"],
                failed=found.get("failed"),
                weight=found.get("weight"),
                num=found.get("num"),
                den=found.get("den"),
            )
        )
    return records


def latency_rows(records: Sequence[QueryRecord]) -> list[LatencyRow]:
    """A row per phase over all consumers, then one per phase and consumer; phases in their order."""
    consumers = sorted({record.consumer for record in records})
    present = {record.phase for record in records}
    phases = [*(p for p in PHASE_ORDER if p in present), *sorted(present - set(PHASE_ORDER))]
    rows = []
    for phase in phases:
        of_phase = [record for record in records if record.phase == phase]
        rows.append(_latency(phase, ALL, of_phase))
        rows += [_latency(phase, name, [r for r in of_phase if r.consumer == name]) for name in consumers]
    return rows


def _latency(phase: str, consumer: str, records: Sequence[QueryRecord]) -> LatencyRow:
    answered = np.array([record.ms for record in records if record.failed is None])
    points: list[float | None] = [None, None, None]
    if answered.size:
        points = [float(value) for value in np.percentile(answered, (50, 95, 99))]
    return LatencyRow(phase, consumer, len(records), len(records) - answered.size, *points)


def failed_outside(records: Iterable[QueryRecord]) -> list[QueryRecord]:
    """Failed queries that no planned outage explains."""
    return [record for record in records if record.failed is not None and record.phase != OUTAGE]


def live_recall(
    records: Sequence[QueryRecord], buckets: int = 40
) -> dict[str, list[tuple[float, float, int]]]:
    """Consumer -> (machine time, mean share of the relevant items found, queries) per equal stretch of time,
    as users saw it."""
    judged = [record for record in records if record.den]
    if not judged:
        return {}
    first, last = min(r.at for r in judged), max(r.at for r in judged)
    width = max((last - first) / buckets, 1e-9)
    found: dict[str, list[tuple[float, float, int]]] = {}
    for name in sorted({record.consumer for record in judged}):
        per_bucket: dict[int, list[QueryRecord]] = {}
        for record in judged:
            if record.consumer == name:
                per_bucket.setdefault(min(buckets - 1, int((record.at - first) / width)), []).append(record)
        found[name] = [
            (first + (bucket + 0.5) * width, _recall(rows), len(rows))
            for bucket, rows in sorted(per_bucket.items())
        ]
    return found


def _recall(records: Sequence[QueryRecord]) -> float:
    return sum((r.num or 0) / r.den for r in records if r.den) / len(records)


def sample_of(status: MigrationStatus, real: float) -> Sample:
    return Sample(
        real=real,
        now=status.now,
        phase=status.migration.phase.value,
        coverage=status.coverage,
        weights={name: progress.weight for name, progress in status.migration.consumers.items()},
    )


def phase_times(samples: Sequence[Sample]) -> list[PhaseTime]:
    """How long each phase lasted, from the first sample in it to the first sample in the next."""
    starts: list[Sample] = []
    for sample in samples:
        if not starts or sample.phase != starts[-1].phase:
            starts.append(sample)
    ends = [*starts[1:], samples[-1]] if samples else []
    return [
        PhaseTime(start.phase, end.real - start.real, end.now - start.now)
        for start, end in zip(starts, ends, strict=True)
    ]


def checks_of(events: Iterable[MigrationEvent]) -> list[Check]:
    """The evaluations of blended reads, in the order of the events: periodic, and before each step."""
    found = []
    for event in events:
        consumer = event.evidence.get("consumer")
        if event.what != "evaluation" or not isinstance(consumer, str):
            continue
        for gate in event.evidence.get("gates", ()):
            evidence = gate.get("evidence", {})
            source, blended = evidence.get("source"), evidence.get("target")
            weight = evidence.get("weight")
            if gate.get("gate") == "blended" and None not in (source, blended, weight):
                found.append(Check(event.at, consumer, weight, source, blended))
    return found


def lowest_blended(checks: Iterable[Check]) -> dict[str, Check]:
    """Consumer -> the check with the largest loss against the source."""
    lowest: dict[str, Check] = {}
    for check in checks:
        known = lowest.get(check.consumer)
        if known is None or check.difference < known.difference:
            lowest[check.consumer] = check
    return lowest
