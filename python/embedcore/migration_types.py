"""Documents of a migration: its plan, phases, per-consumer progress, gates and recorded events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from embedcore.types import Document

DAY = 86_400.0


class Phase(StrEnum):
    """Phases of SPEC section 3. Each is entered once, in this order, except for the ways out."""

    PREFLIGHT = "preflight"
    DUAL_WRITE = "dual_write"  # both generations receive every write; reads are 100% source
    BACKFILL = "backfill"
    BLENDED = "blended"  # from 50% coverage on; the backfill may still be running
    GRACE = "grace"  # cut over; source kept and still written
    DONE = "done"  # source reclaimed
    ROLLED_BACK = "rolled_back"  # all consumers on the source, dual-write goes on
    ABORTED = "aborted"  # target dropped
    REFUSED = "refused"  # pre-flight said no; nothing was attached
    HALTED = "halted"  # parity gate: audit of the golden set needed
    DEFERRED = "deferred"  # unified migration, one consumer not ready within the window


FINISHED = frozenset({Phase.DONE, Phase.ABORTED, Phase.REFUSED})


class PlanStep(Document):
    day: float = Field(ge=0)  # counted from the first dual write
    weight: float = Field(ge=0, le=1)


class Plan(Document):
    """Settings of one migration; the defaults are the rules of SPEC section 3."""

    policy: Literal["strict", "non-inferior"] = "strict"
    margin: float = 0.02  # one-sided 95% lower bound of the paired difference must exceed -margin
    long_tail_margin: float = 0.05
    steps: tuple[PlanStep, ...] = (
        PlanStep(day=1, weight=0.1),
        PlanStep(day=3, weight=0.5),
        PlanStep(day=6, weight=0.9),
    )
    blend_coverage: float = 0.50
    cutover_coverage: float = 0.99  # must be exceeded
    canary_share: float = Field(default=0.05, ge=0, le=1)
    shadow_share: float = Field(default=0.01, ge=0, le=1)
    shadow_seconds: float = DAY
    window_seconds: float = 7 * DAY
    grace_seconds: float = DAY
    evaluate_every_seconds: float = 900.0
    evaluation_queries: int = 500  # per periodic evaluation while blended; gates use the whole set
    preflight_items: int = 2_000
    canary_items: int = 1_000
    backfill_rate: float = 0.0  # items per second of the clock; 0: as fast as the encoder goes
    backfill_chunk: int = 64
    unified: bool = False
    auto_revert: bool = True
    auto_advance: bool = True  # follow the steps; otherwise weights are set by hand
    auto_cutover: bool = False
    simulated_engagement: bool = False


class GateResult(Document):
    """A gate's verdict with its evidence. No evidence is a gate not met."""

    gate: str
    passed: bool
    summary: str  # one line for people
    evidence: dict[str, Any] = Field(default_factory=dict)
    at: float


class ConsumerProgress(Document):
    weight: float = 0.0
    reverted: bool = False
    held: str = ""  # why the plan does not advance; empty when it does
    canary_since: float | None = None
    shadow_since: float | None = None
    shadow_compared: int = 0
    shadow_overlap: float = 0.0  # mean share of common ids in top k, over shadow_compared
    shadow_agreed: int = 0  # shadow queries in which both made the same decision (top id)
    evaluated_at: float | None = None
    gates: dict[str, GateResult] = Field(default_factory=dict)  # the latest per gate


class Migration(Document):
    id: str
    source: int  # generation numbers
    target: int
    target_model: str
    phase: Phase
    plan: Plan
    created_at: float
    created_by: str
    dual_write_at: float | None = None
    backfilled_at: float | None = None
    blended_at: float | None = None
    cutover_at: float | None = None
    grace_lasted: float = 0.0  # seconds since, witnessed by running processes; recorded from time to time
    ended_at: float | None = None
    paused: bool = False
    window_until: float | None = None
    verdict: str = ""  # canary set: "incremental", "full", with the mean cosine in the events
    baseline: dict[str, float] = Field(default_factory=dict)  # consumer -> source metric at pre-flight
    calibration: str = ""  # hexadecimal bytes of the ScoreCalibration source -> target; empty: identity
    consumers: dict[str, ConsumerProgress] = Field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.phase in FINISHED


class MigrationEvent(Document):
    """One recorded transition: who, when, why, and the evidence."""

    migration: str
    number: int  # 1, 2, ... within the migration
    at: float
    who: str
    what: str  # e.g. "phase", "weight", "revert", "refused", "override", "evaluation"
    why: str
    evidence: dict[str, Any] = Field(default_factory=dict)


class MigrationStatus(Document):
    """What ``migrate status`` and WatchMigration show: the document and what is measured now."""

    migration: Migration
    now: float
    coverage: float  # live items whose current version every target shard has applied / live items
    live_items: int
    backfilled: int
    backfill_rate: float  # items per second of the clock, over the last minute of machine time
    eta_seconds: float | None
    repair_queue: int
    corrupt_shards: tuple[int, ...] = ()
    dual_writes: int = 0  # vectors computed for the target so far: what the window has cost
    window_left_seconds: float | None = None
    cutover_blockers: tuple[str, ...] = ()
    simulated_time: bool = False
    last_event: int = 0
