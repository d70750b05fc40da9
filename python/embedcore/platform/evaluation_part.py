"""Evaluation and engagement, as plain documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.golden import GoldenSet
from embedcore.migration_types import Plan
from embedcore.platform.registry_part import RegistryPart


class EvaluationPart(RegistryPart):
    """See :class:`embedcore.api.PlatformApi`."""

    def import_golden_set(self, golden: GoldenSet, *, gate: bool = True) -> dict[str, Any]:
        return self.desk.import_golden_set(golden, gate)

    def golden_sets(self) -> list[dict[str, Any]]:
        return self.desk.golden_sets()

    def sample_queries(
        self,
        consumer: str,
        buckets: Mapping[str, int],
        *,
        depth: int = 10,
        min_count: int = 2,
        seed: int = 0,
    ) -> dict[str, Any]:
        return self.desk.sample_queries(consumer, buckets, depth=depth, min_count=min_count, seed=seed)

    def evaluate(self, consumer: str, generation: int = 0, *, golden_set: str = "") -> dict[str, Any]:
        who, number = self.harness.consumer(consumer), generation or self._serving_generation()
        return self.harness.evaluate(who, number, golden_set=golden_set).to_document()

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
        return self.harness.compare(
            consumer,
            source,
            target,
            plan,
            equal_freshness=equal_freshness,
            golden_set=golden_set,
        ).to_document()

    def evaluation_report(
        self,
        source: int = 0,
        target: int = 0,
        *,
        consumers: Sequence[str] = (),
        plan: Plan | None = None,
        migration_id: str = "",
    ) -> dict[str, Any]:
        if bool(source) != bool(target):
            raise InvalidArgument("a report is of a source and a target generation: name both, or neither")
        if not source:
            migration = self.controller.status(migration_id).migration
            if not migration.target:
                raise FailedPrecondition(f"migration {migration.id} has no target generation yet")
            source, target, plan = migration.source, migration.target, plan or migration.plan
        return self.desk.report(source, target, consumers, plan)

    def calibrate_ef(self, consumer: str, generation: int = 0, *, apply: bool = False) -> dict[str, Any]:
        who, number = self.harness.consumer(consumer), generation or self._serving_generation()
        found = self.harness.calibrator.ef_search(who, number)
        if apply:
            if found.ef_search is None:
                raise FailedPrecondition(
                    f"no ef_search up to {found.tested[0].ef_search} reaches recall {found.target} with "
                    f"95% confidence (recall {found.tested[0].recall:.3f}); rebuild the index, or lower "
                    "index_recall"
                )
            current = self.harness.consumer(consumer)
            known = {**current.ef_by_generation, number: found.ef_search}
            self.set_consumer(current.model_copy(update={"ef_by_generation": known}))
        return found.to_document() | {"applied": apply}

    def calibrate_scores(self, source: int, target: int) -> dict[str, Any]:
        return self.desk.calibrate_scores(source, target)

    def check_parity(self) -> dict[str, Any]:
        return self.desk.check_parity()

    def preflight(self, target_model: str, plan: Plan | None = None) -> dict[str, Any]:
        return self.desk.preflight(self._serving_generation(), target_model, plan)

    def report_engagement(
        self, consumer: str, arm: str, totals: Mapping[str, float], *, simulated: bool, migration_id: str = ""
    ) -> None:
        self.harness.consumer(consumer)
        if arm not in ("control", "canary"):
            raise InvalidArgument(f"arm must be 'control' or 'canary', got {arm!r}")
        if simulated and not self.store.simulated:
            raise FailedPrecondition("simulated engagement is refused outside a simulated data directory")
        migration = self.controller.status(migration_id).migration
        self.store.add_engagement(migration.id, consumer, arm, totals, simulated)

    def compare_engagement(self, consumer: str, migration_id: str = "") -> dict[str, Any]:
        gate = self.controller.engagement_gate(self.harness.consumer(consumer), migration_id).model_dump()
        migration = self.controller.status(migration_id).migration
        prediction = self.desk.lift.get(migration.id, consumer)
        return gate | {"prediction": None if prediction is None else prediction.model_dump()}
