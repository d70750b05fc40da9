"""What the blocking client and the remote platform have in common: all but the shape of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedcore.api import GenerationStatus, PlatformStatus, SnapshotTaken
from embedcore.client import calls, control, methods
from embedcore.client.transport import Transport
from embedcore.migration_types import MigrationEvent, MigrationStatus, Plan
from embedcore.types import (
    Consumer,
    Fingerprint,
    Generation,
    Item,
    ModelSpec,
    SearchAnswer,
    SearchRequest,
    StoredItem,
    Vectors,
    WriteReceipt,
)
from embedcore.v1 import migration_pb2
from embedcore.wire_documents import migration_status_from_message

if TYPE_CHECKING:
    from embedcore.evaluation.golden import GoldenSet


class SharedCalls(Transport):
    """The methods of PlatformApi, but for ``search``, through a server. Errors are those of the platform."""

    # Items.

    def upsert(self, items: Sequence[Item], *, timeout: float | None = None) -> WriteReceipt:
        return self.run(calls.upsert(items, timeout))

    def delete(
        self, ids: Sequence[str], namespace: str = "", *, timeout: float | None = None
    ) -> WriteReceipt:
        return self.run(calls.delete(ids, namespace, timeout))

    def get_item(self, item_id: str, namespace: str = "") -> StoredItem:
        return self.run(calls.get_item(item_id, namespace))

    # Queries.

    def search_batch(
        self, requests: Sequence[SearchRequest], *, timeout: float | None = None
    ) -> list[SearchAnswer]:
        """All answered, or none; in order."""
        return self.run(calls.search_batch(requests, timeout))

    def embed(
        self, model: str, texts: Sequence[str], *, timeout: float | None = None
    ) -> tuple[Fingerprint, Vectors]:
        """Vectors: float32 (len(texts), dimension)."""
        return self.run(calls.embed(model, texts, timeout))

    # Registries.

    def consumers(self) -> list[Consumer]:
        return self.run(control.consumers())

    def set_consumer(self, consumer: Consumer) -> Consumer:
        return self.run(control.set_consumer(consumer))

    def models(self) -> list[ModelSpec]:
        return self.run(control.models())

    def register_model(self, spec: ModelSpec) -> ModelSpec:
        return self.run(control.register_model(spec))

    def generations(self) -> list[GenerationStatus]:
        return self.run(control.generations())

    def backup(self, destination: str) -> dict[str, Any]:
        return self.run(control.backup(destination))

    def set_time_scale(self, scale: float) -> float:
        return self.run(control.set_time_scale(scale))

    def create_generation(self, model: str) -> Generation:
        return self.run(control.create_generation(model))

    def snapshot(self) -> list[SnapshotTaken]:
        return self.run(control.snapshot())

    def verify(self, sample: int = 1000) -> dict[str, Any]:
        return self.run(control.verify(sample))

    def status(self) -> PlatformStatus:
        return self.run(control.status())

    # Migrations. An empty id means the latest.

    def start_migration(
        self, target_model: str, plan: Plan | None = None, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return self.run(control.start_migration(target_model, plan, who, why, override))

    def migration(self, migration_id: str = "") -> MigrationStatus:
        return self.run(control.migration(migration_id))

    def migrations(self) -> list[MigrationStatus]:
        return self.run(control.migrations())

    def migration_events(self, migration_id: str = "", after: int = 0) -> list[MigrationEvent]:
        return self.run(control.migration_events(migration_id, after))

    def watch_migration(self, migration_id: str = "") -> Iterator[MigrationStatus]:
        request = migration_pb2.GetMigrationRequest(id=migration_id)
        return self.watch(methods.WATCH_MIGRATION, request, migration_status_from_message)

    def set_weight(
        self, migration_id: str, consumer: str, weight: float, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return self.run(control.set_weight(migration_id, consumer, weight, who, why, override))

    def pause_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return self.run(control.control(methods.PAUSE_MIGRATION, migration_id, who, why))

    def resume_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return self.run(control.control(methods.RESUME_MIGRATION, migration_id, who, why))

    def extend_window(self, migration_id: str, seconds: float, *, who: str, why: str) -> MigrationStatus:
        return self.run(control.extend_window(migration_id, seconds, who, why))

    def revert_consumer(
        self, migration_id: str, consumer: str, *, who: str, why: str = ""
    ) -> MigrationStatus:
        return self.run(control.revert_consumer(migration_id, consumer, who, why))

    def cutover(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return self.run(control.control(methods.CUTOVER, migration_id, who, why, override))

    def rollback(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return self.run(control.control(methods.ROLLBACK, migration_id, who, why))

    def abort_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return self.run(control.control(methods.ABORT_MIGRATION, migration_id, who, why))

    def decommission(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return self.run(control.control(methods.DECOMMISSION, migration_id, who, why, override))

    # Evaluation and engagement.

    def import_golden_set(self, golden: GoldenSet, *, gate: bool = True) -> dict[str, Any]:
        return self.run(control.import_golden_set(golden, gate))

    def golden_sets(self) -> list[dict[str, Any]]:
        return self.run(control.golden_sets())

    def sample_queries(
        self,
        consumer: str,
        buckets: Mapping[str, int],
        *,
        depth: int = 10,
        min_count: int = 2,
        seed: int = 0,
    ) -> dict[str, Any]:
        return self.run(control.sample_queries(consumer, buckets, depth, min_count, seed))

    def evaluate(self, consumer: str, generation: int = 0, *, golden_set: str = "") -> dict[str, Any]:
        return self.run(control.evaluate(consumer, generation, golden_set))

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
        return self.run(control.compare(consumer, source, target, plan, equal_freshness, golden_set))

    def evaluation_report(
        self,
        source: int = 0,
        target: int = 0,
        *,
        consumers: Sequence[str] = (),
        plan: Plan | None = None,
        migration_id: str = "",
    ) -> dict[str, Any]:
        return self.run(control.evaluation_report(source, target, consumers, plan, migration_id))

    def calibrate_ef(self, consumer: str, generation: int = 0, *, apply: bool = False) -> dict[str, Any]:
        return self.run(control.calibrate_ef(consumer, generation, apply))

    def calibrate_scores(self, source: int, target: int) -> dict[str, Any]:
        return self.run(control.calibrate_scores(source, target))

    def check_parity(self) -> dict[str, Any]:
        return self.run(control.check_parity())

    def preflight(self, target_model: str, plan: Plan | None = None) -> dict[str, Any]:
        return self.run(control.preflight(target_model, plan))

    def report_engagement(
        self, consumer: str, arm: str, totals: Mapping[str, float], *, simulated: bool, migration_id: str = ""
    ) -> None:
        self.run(control.report_engagement(consumer, arm, totals, simulated, migration_id))

    def compare_engagement(self, consumer: str, migration_id: str = "") -> dict[str, Any]:
        return self.run(control.compare_engagement(consumer, migration_id))
