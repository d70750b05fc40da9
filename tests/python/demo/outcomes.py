"""A demo's outcome in which everything held, to be damaged."""

from __future__ import annotations

from embedcore.demo.acts import Refusal
from embedcore.demo.oracle import Verdict
from embedcore.demo.outcome import Outcome
from embedcore.demo.processes import Outage
from embedcore.demo.scenario import DemoOptions
from embedcore.demo.summary import OUTAGE, QueryRecord, Sample
from embedcore.migration_types import Migration, MigrationStatus, Phase, Plan


def record(failed: str | None = None, phase: str = "blended", at: float = 100.0) -> QueryRecord:
    return QueryRecord(at, 5.0, 0.1, "ads", phase, failed, 0.5, None if failed else 1, None if failed else 1)


def status(
    phase: Phase, *, now: float = 1.0, coverage: float = 1.0, began: float | None = 0.0
) -> MigrationStatus:
    return MigrationStatus(
        migration=Migration(
            id="m",
            source=1,
            target=2,
            target_model="new",
            phase=phase,
            plan=Plan(),
            created_at=0.0,
            created_by="test",
            dual_write_at=began,
        ),
        now=now,
        coverage=coverage,
        live_items=1,
        backfilled=1,
        backfill_rate=0.0,
        eta_seconds=None,
        repair_queue=0,
    )


def good() -> Outcome:
    evaluation = {"metric_name": "recall@5", "metric": 0.8, "per_query": {"rows": "..."}}
    outcome = Outcome(DemoOptions(kill=True), "<b>a corpus</b>", 1, "old", "new", scales=[500.0, 5_000.0])
    outcome.status = status(Phase.DONE)
    outcome.records = [record(at=100.0 + n) for n in range(20)] + [record("late", OUTAGE)]
    outcome.samples = [
        Sample(100.0, 0.0, "backfill", 0.5, {"ads": 0.0}),
        Sample(120.0, 9.0, "done", 1.0, {"ads": 1.0}),
    ]
    outcome.before = {"ads": evaluation}
    outcome.after = {"ads": evaluation | {"metric": 0.83}}
    outcome.verdict = Verdict(acknowledged=10, items=9, deleted=1, in_doubt=0)
    outcome.outages = [Outage(1.0, 2.0)]
    gates = ({"gate": "norms", "passed": False, "summary": "off by <5>"},)
    outcome.refusals = [Refusal("bad", "unnormalised", True, True, "refused", gates, 0.5)]
    outcome.exit_code = 0
    return outcome
