"""What the controller asks of evaluation, as verdicts: its one door to golden sets and statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from embedcore.evaluation.engagement import engagement_gate
from embedcore.evaluation.lift import LiftFit
from embedcore.migration_types import ConsumerProgress, GateResult, Plan
from embedcore.types import Consumer, Generation

if TYPE_CHECKING:
    from embedcore.evaluation.harness import Harness

Arms = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class PreflightVerdict:
    """``gates`` of all consumers, ``verdict`` of the canary set, ``baseline``: consumer -> source metric."""

    gates: Sequence[GateResult]
    verdict: str
    baseline: Mapping[str, float]
    evidence: Mapping[str, Any] = field(default_factory=dict)


class Judge(Protocol):
    """All methods may be called from any thread, may take seconds, and raise errors of embedcore.errors."""

    def preflight(
        self, consumers: Sequence[Consumer], source: Generation, target_model: str, plan: Plan
    ) -> PreflightVerdict:
        """Both models on a sample that both embed whole, before any dual-write cost is paid."""

    def offline(self, consumer: Consumer, source: int, target: int, plan: Plan) -> Sequence[GateResult]:
        """The whole golden set on the target as it stands: quality, long tail, and whatever else judges."""

    def blended(
        self, consumer: Consumer, source: int, target: int, weight: float, plan: Plan, seed: int
    ) -> GateResult:
        """The periodic check: a seeded subset of the golden set at a weight against the source."""

    def engagement(
        self, consumer: Consumer, progress: ConsumerProgress, arms: Arms, plan: Plan, at: float
    ) -> GateResult:
        """Canary against control, always valid. Evidence holds ``lower``, ``upper`` and ``difference``
        once both arms have reached the minimum count."""

    def calibrate(self, source: int, target: int) -> bytes:
        """Source distances onto the target's scale: ScoreCalibration.to_bytes()."""

    def predict_lift(
        self, migration: str, consumer: Consumer, progress: ConsumerProgress, at: float
    ) -> Mapping[str, Any] | None:
        """Puts on record what lift the canary that is about to begin should show. Evidence, or None."""

    def fitted_lift(self, migration: str, consumer: str, gain: float) -> LiftFit | None:
        """What past canaries say of a gain in recall; None where they are too few."""

    def score_lift(
        self, migration: str, consumer: str, canary: GateResult, at: float
    ) -> Mapping[str, Any] | None:
        """Puts what the canary showed beside what was predicted. Evidence, or None."""


class HarnessJudge:
    """The judge that a platform has: the evaluation harness. Thread-safe as the harness is."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def preflight(
        self, consumers: Sequence[Consumer], source: Generation, target_model: str, plan: Plan
    ) -> PreflightVerdict:
        report = self._harness.preflight(list(consumers), source.number, target_model, plan)
        verdict = report.verdict
        return PreflightVerdict(
            gates=[gate.model_copy(update={"gate": name}) for name, gate in report.gates.items()],
            verdict="" if verdict is None else verdict.verdict,
            # A metric that is undefined on the sample is no baseline.
            baseline={name: value for name, value in report.baseline.items() if math.isfinite(value)},
            evidence=report.to_document(),
        )

    def offline(self, consumer: Consumer, source: int, target: int, plan: Plan) -> Sequence[GateResult]:
        # Beside live traffic: what no gate asks for is left to reports.
        return list(self._harness.compare(consumer, source, target, plan, ranked=False).gates.values())

    def blended(
        self, consumer: Consumer, source: int, target: int, weight: float, plan: Plan, seed: int
    ) -> GateResult:
        compared = self._harness.evaluate_blended(
            consumer,
            source,
            target,
            weight,
            plan.evaluation_queries,
            np.random.default_rng(seed),
            plan=plan,
        )
        return compared.gates["blended"]

    def engagement(
        self, consumer: Consumer, progress: ConsumerProgress, arms: Arms, plan: Plan, at: float
    ) -> GateResult:
        gate = engagement_gate(
            consumer, with_shadow(consumer, progress, arms), at=at, canary_share=plan.canary_share
        )
        if gate.passed and gate.evidence.get("simulated") and not plan.simulated_engagement:
            gate = gate.model_copy(
                update={
                    "passed": False,
                    "summary": f"{consumer.name}: simulated engagement is no evidence for this plan: its "
                    f"simulated_engagement is off",
                }
            )
        lower, difference = gate.evidence.get("lower"), gate.evidence.get("difference")
        if lower is None or difference is None:
            return gate
        # The sequence is symmetric about the estimate.
        evidence = {**gate.evidence, "upper": 2 * difference - lower}
        return gate.model_copy(update={"evidence": evidence})

    def calibrate(self, source: int, target: int) -> bytes:
        return bytes.fromhex(self._harness.calibrator.scores(source, target).data)

    def predict_lift(
        self, migration: str, consumer: Consumer, progress: ConsumerProgress, at: float
    ) -> Mapping[str, Any] | None:
        quality = progress.gates.get("quality")
        if quality is None:
            return None
        made = self._harness.lift.predict(migration, consumer, quality, progress.weight, at=at)
        return None if made is None else made.model_dump()

    def fitted_lift(self, migration: str, consumer: str, gain: float) -> LiftFit | None:
        fitted = self._harness.lift.fitted(migration, consumer, gain)
        return fitted if fitted.canaries else None

    def score_lift(
        self, migration: str, consumer: str, canary: GateResult, at: float
    ) -> Mapping[str, Any] | None:
        scored = self._harness.lift.score(migration, consumer, canary, at=at)
        return None if scored is None else scored.model_dump()


def with_shadow(consumer: Consumer, progress: ConsumerProgress, arms: Arms) -> dict[str, Mapping[str, float]]:
    """An ``agreement`` consumer is judged by its decisions in the shadow run, beside what was reported."""
    found: dict[str, Mapping[str, float]] = dict(arms)
    if consumer.engagement == "agreement" and progress.shadow_compared:
        found["shadow"] = {
            "agreed": float(progress.shadow_agreed),
            "compared": float(progress.shadow_compared),
        }
    return found
