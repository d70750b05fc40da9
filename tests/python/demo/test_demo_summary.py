"""Figures from records: phases, percentiles, failures, outages, phase times, lowest blend."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from embedcore.demo.processes import Outage
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
    read_queries,
)
from embedcore.migration_types import MigrationEvent


def record(at: float, ms: float, *, phase: str = "backfill", consumer: str = "ads", **more: object) -> dict:
    return {"at": at, "ms": ms, "late_ms": 0.0, "phase": phase, "consumer": consumer, **more}


def written(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_a_query_that_overlaps_an_outage_belongs_to_it(tmp_path: Path) -> None:
    records = [
        record(9.0, 500),  # over before the kill
        record(9.8, 3_000, failed="unavailable: gone"),  # in flight when it came
        record(11.0, 100),
        record(12.9, 500),  # ended after the restart, sent before it
        record(13.5, 10, failed="empty answer"),
    ]
    found = read_queries(written(tmp_path / "q.jsonl", records), [Outage(10.0, 13.0)])
    assert [r.phase for r in found] == ["backfill", OUTAGE, OUTAGE, OUTAGE, "backfill"]
    assert [r.failed for r in failed_outside(found)] == ["empty answer"]
    assert [r.phase for r in read_queries(tmp_path / "q.jsonl")] == ["backfill"] * 5


def test_percentiles_are_those_of_answered_queries(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = {name: rng.exponential(10, 300) for name in ("ads", "search")}
    records = [record(0, ms, consumer=name) for name, values in times.items() for ms in values]
    records.append(record(0, 99_999, failed="deadline_exceeded: late"))
    records += [record(0, 5, phase="before")]
    rows = latency_rows(read_queries(written(tmp_path / "q.jsonl", records)))
    assert [(r.phase, r.consumer) for r in rows] == [
        ("before", ALL),
        ("before", "ads"),
        ("before", "search"),
        ("backfill", ALL),
        ("backfill", "ads"),
        ("backfill", "search"),
    ]
    ads = rows[4]
    assert (ads.sent, ads.failed) == (301, 1)
    expected = np.percentile(np.round(times["ads"], 12), (50, 95, 99))
    assert (ads.p50, ads.p95, ads.p99) == pytest.approx(tuple(expected))
    assert (rows[2].sent, rows[2].p50) == (0, None)


def test_live_recall_is_found_over_relevant() -> None:
    def one(at: float, num: int | None, den: int | None) -> QueryRecord:
        return QueryRecord(at, 1.0, 0.0, "ads", "backfill", None, 0.0, num, den)

    found = live_recall([one(0, 1, 1), one(1, 0, 1), one(9, 2, 4), one(10, 2, 4), one(5, None, None)], 2)
    assert [(round(share, 3), count) for _, share, count in found["ads"]] == [(0.5, 2), (0.5, 2)]
    assert live_recall([one(0, None, None)]) == {}


def test_phase_times_in_both_clocks() -> None:
    def sample(real: float, phase: str) -> Sample:
        return Sample(real, 1_000 * real, phase, 0.0, {})

    samples = [sample(0, "dual_write"), sample(1, "backfill"), sample(3, "backfill"), sample(7, "done")]
    found = [(t.phase, t.real_seconds, t.simulated_seconds) for t in phase_times(samples)]
    assert found == [("dual_write", 1, 1_000), ("backfill", 6, 6_000), ("done", 0, 0)]
    assert phase_times([]) == []


def test_the_lowest_blend_is_the_largest_loss_on_the_same_queries() -> None:
    def event(consumer: str, gate: str, source: float | None, target: float) -> MigrationEvent:
        evidence = {"source": source, "target": target, "weight": 0.5}
        gates = [{"gate": gate, "passed": True, "evidence": evidence}]
        return MigrationEvent(
            migration="m",
            number=1,
            at=0,
            who="controller",
            what="evaluation",
            why="",
            evidence={"consumer": consumer, "gates": gates},
        )

    events = [
        event("ads", "blended", 0.80, 0.79),
        event("ads", "blended", 0.70, 0.71),  # lower, but not a loss
        event("ads", "quality", 0.90, 0.10),  # the target's own verdict
        event("ads", "blended", None, 0.1),
        event("search", "blended", 0.9, 0.95),
    ]
    checks = checks_of(events)
    assert [(c.consumer, c.source, c.metric) for c in checks] == [
        ("ads", 0.80, 0.79),
        ("ads", 0.70, 0.71),
        ("search", 0.9, 0.95),
    ]
    found = lowest_blended(checks)
    assert (found["ads"].source, found["ads"].metric) == (0.80, 0.79)
    assert found["search"].difference == pytest.approx(0.05)
