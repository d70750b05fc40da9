"""The whole demo on toy models: real processes, a kill -9 in the backfill, both refusals, the report."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from demo.toy_scenario import scenario
from embedcore.demo.run import DemoOptions, run_demo
from embedcore.demo.summary import OUTAGE
from embedcore.errors import FailedPrecondition
from embedcore.migration_types import Phase, Plan, PlanStep

HOUR = 3_600.0
# At this test's scale two minutes of the machine: an evaluation that a busy one has to try again waits 20 s
# of the machine, which is a week of the plan.
PATIENCE_DAYS = 42.0


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's process imports the toy models from the folder of the tests."""
    tests = str(Path(__file__).parents[1])
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([tests, *filter(None, [known])]))


@pytest.mark.timeout(300)
def test_a_migration_under_traffic_with_a_kill(importable: None, tmp_path: Path) -> None:
    options = DemoOptions(
        items=500,
        queries=400,
        rate=60.0,
        write_rate=3.0,
        fresh=0.0,
        time_scale=30_000.0,
        last_day=2 * PATIENCE_DAYS,
        report=tmp_path / "out" / "report.html",
        keep=tmp_path / "kept",
        kill=True,
        before_seconds=1.0,
        plan=Plan(
            steps=(PlanStep(day=1, weight=0.1), PlanStep(day=2, weight=0.9)),
            shadow_seconds=6 * HOUR,
            shadow_share=1.0,
            grace_seconds=6 * HOUR,
            window_seconds=PATIENCE_DAYS * 24 * HOUR,
            auto_cutover=True,
            simulated_engagement=True,
            preflight_items=300,
            canary_items=200,
            backfill_rate=500 / (3 * 30_000),  # three seconds of the machine, so that the kill meets it
        ),
    )
    outcome = run_demo(options, scenario=scenario(500, 400), quiet=True)
    told = "\n".join(f"{must.what}: {must.held}: {must.found}" for must in outcome.musts())

    assert outcome.passed, told
    assert outcome.status.migration.phase is Phase.DONE
    # Evaluated when everything that was ingested could be found: the toy models find it nearly always.
    assert all(found["metric"] > 0.95 for found in outcome.before.values())
    assert all(found["metric"] > 0.95 for found in outcome.after.values())
    assert outcome.verdict is not None
    assert outcome.verdict.items >= 500
    assert outcome.verdict.deleted > 0
    assert outcome.verdict.acknowledged > outcome.verdict.items
    # The kill met the backfill, which went on: nothing that was acknowledged is missing.
    assert len(outcome.outages) == 1
    kinds = [event.what for event in outcome.events]
    assert {"preflight", "calibration", "shadow", "canary", "revert", "weight"} <= set(kinds)
    assert {record.consumer for record in outcome.records} == {"search", "recsys", "ads", "dedup"}
    assert any(record.phase == Phase.BLENDED.value for record in outcome.records)
    assert all(record.failed is None for record in outcome.records if record.phase != OUTAGE)
    assert outcome.revert is not None
    assert outcome.revert["effective_ms"] >= outcome.revert["call_ms"]
    assert set(outcome.canary) == {"search", "recsys", "ads", "dedup"}
    assert [(r.model, r.refused) for r in outcome.refusals] == [("lengthened", True), ("noisy", True)]
    assert any("norm" in line for line in outcome.refusals[0].losing)
    assert outcome.refusals[1].losing

    page = options.report.read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "500 toy texts &lt;of eight words&gt;" in page
    assert "<of eight words>" not in page
    assert "http://" not in page.replace("http://www.w3.org/", "").replace("http://purl.org/", "").replace(
        "http://creativecommons.org/", ""
    )
    data = json.loads(options.report.with_suffix(".json").read_text(encoding="utf-8"))
    assert data["passed"] is True
    assert data["oracle"]["losses"] == []
    assert data["latency"][0]["consumer"] == "all"
    assert (tmp_path / "kept" / "data").is_dir()


def test_a_directory_that_is_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FailedPrecondition, match="not empty"):
        run_demo(DemoOptions(keep=tmp_path), scenario=scenario(500, 100), quiet=True)
    assert (tmp_path / "mine.txt").read_text() == "precious"
