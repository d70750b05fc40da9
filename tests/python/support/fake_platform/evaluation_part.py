"""Evaluation and engagement: documents of the shapes that the real ones have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedcore.migration_types import GateResult, Plan
from support.fake_platform.core import NOW, FakeCore

if TYPE_CHECKING:
    from embedcore.evaluation.golden import GoldenSet


class EvaluationPart(FakeCore):
    def __init__(self) -> None:
        super().__init__()
        self.engagement: list[tuple[str, str, dict[str, float], bool, str]] = []
        self.golden: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[Any, ...]] = []  # arguments of calls of evaluation
        self.parity: dict[str, Any] = {"equal": True, "rows": []}
        self.report: dict[str, Any] = {
            "go": False,
            "headline": "1 of 1 consumers refuse: ads: no evidence",
            "at": NOW,
            "policy": "strict",
            "margin": 0.02,
            "source": {"generation": 1, "model": "toy"},
            "target": {"generation": 2, "model": "toy2"},
            "no_evidence": {"ads": "no golden set"},
            "consumers": {},
        }

    def import_golden_set(self, golden: GoldenSet, *, gate: bool = True) -> dict[str, Any]:
        self._enter("import_golden_set")
        info = {
            "name": golden.name,
            "consumer": golden.consumer,
            "queries": len(golden.queries),
            "version": 1,
            "digest": golden.digest,
            "gate": gate,
            "public": golden.public,
            "labelling": None if golden.labelling is None else golden.labelling.model_dump(),
        }
        self.golden[golden.name] = info
        return info

    def golden_sets(self) -> list[dict[str, Any]]:
        return list(self.golden.values())

    def sample_queries(
        self,
        consumer: str,
        buckets: Mapping[str, int],
        *,
        depth: int = 10,
        min_count: int = 2,
        seed: int = 0,
    ) -> dict[str, Any]:
        self.asked.append((consumer, dict(buckets), depth, min_count, seed))
        shown = [{"item": "a", "content": "a red bicycle", "position": 1}]
        query = {"query_id": "q-1", "text": "bike", "bucket": "head", "count": 3, "candidates": shown}
        return {"consumer": consumer, "queries": [query]}

    def evaluate(self, consumer: str, generation: int = 0, *, golden_set: str = "") -> dict[str, Any]:
        self._enter("evaluate")
        return _evaluation(consumer, generation or 1, 0.9) | {"golden": golden_set}

    def compare(
        self,
        consumer: str,
        source: int,
        target: int,
        plan: Plan | None = None,
        *,
        equal_freshness: bool = False,
        golden_set: str = "",
    ) -> dict[str, Any]:
        self.asked.append((consumer, plan, equal_freshness, golden_set))
        return {
            "source": _evaluation(consumer, source, 0.9),
            "target": _evaluation(consumer, target, 0.92),
            "comparison": {"difference": 0.02, "lower": 0.01, "upper": 0.03, "p_value": 0.001},
            "passed": True,
        }

    def evaluation_report(
        self,
        source: int = 0,
        target: int = 0,
        *,
        consumers: Sequence[str] = (),
        plan: Plan | None = None,
        migration_id: str = "",
    ) -> dict[str, Any]:
        self.asked.append((source, target, tuple(consumers), plan, migration_id))
        return self.report

    def calibrate_ef(self, consumer: str, generation: int = 0, *, apply: bool = False) -> dict[str, Any]:
        point = {"ef_search": 64, "recall": 0.97, "lower": 0.96, "p50_ms": 0.1, "p95_ms": 0.2}
        reached = consumer != "dedup"
        return {
            "consumer": consumer,
            "generation": generation or 1,
            "target": 0.95,
            "ef_search": 64 if reached else None,
            "now": point,
            "chosen": point if reached else None,
            "applied": apply,
        }

    def calibrate_scores(self, source: int, target: int) -> dict[str, Any]:
        return {"method": "pairs", "pairs": 500, "queries": 40, "error": 0.03, "data": "00"}

    def check_parity(self) -> dict[str, Any]:
        return self.parity

    def preflight(self, target_model: str, plan: Plan | None = None) -> dict[str, Any]:
        gate = GateResult(gate="norms", passed=target_model != "bad", summary="norms", at=NOW).model_dump()
        verdict = {"verdict": "full", "items": 10, "reason": "mean cosine 0.300 < 0.8"}
        return {"passed": gate["passed"], "gates": {"norms": gate}, "advice": {}, "verdict": verdict}

    def report_engagement(
        self, consumer: str, arm: str, totals: Mapping[str, float], *, simulated: bool, migration_id: str = ""
    ) -> None:
        self.engagement.append((consumer, arm, dict(totals), simulated, migration_id))

    def compare_engagement(self, consumer: str, migration_id: str = "") -> dict[str, Any]:
        return {"passed": True, "summary": "no fall", "arms": {"canary": 1000}, "migration": migration_id}


def _evaluation(consumer: str, generation: int, metric: float) -> dict[str, Any]:
    return {
        "consumer": consumer,
        "generation": generation,
        "metric_name": "recall@10",
        "metric": metric,
        "lower": metric - 0.01,
        "upper": metric + 0.01,
        "queries": 500,
        "long_tail": None,
    }
