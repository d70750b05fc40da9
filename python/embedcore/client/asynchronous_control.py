"""The control calls of the asynchronous client: registries, migrations, evaluation, engagement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from embedcore.api import GenerationStatus, PlatformStatus, SnapshotTaken
from embedcore.client import control, methods
from embedcore.client.methods import Call, Method
from embedcore.migration_types import MigrationEvent, MigrationStatus, Plan
from embedcore.types import Consumer, Generation, ModelSpec
from embedcore.v1 import migration_pb2
from embedcore.wire_documents import migration_status_from_message

if TYPE_CHECKING:
    from embedcore.evaluation.golden import GoldenSet

Result = TypeVar("Result")


class AsyncControl(ABC):
    """The control part of PlatformApi, awaited. Errors are those of the platform."""

    @abstractmethod
    async def run(self, call: Call[Result]) -> Result:
        """Makes a unary call and reads its answer."""

    @abstractmethod
    def watch(
        self, method: Method, request: Message, parse: Callable[[Any], Result]
    ) -> AsyncIterator[Result]:
        """One request, a stream of answers, until the server ends it or the iterator is closed."""

    # Registries.

    async def consumers(self) -> list[Consumer]:
        return await self.run(control.consumers())

    async def set_consumer(self, consumer: Consumer) -> Consumer:
        return await self.run(control.set_consumer(consumer))

    async def models(self) -> list[ModelSpec]:
        return await self.run(control.models())

    async def register_model(self, spec: ModelSpec) -> ModelSpec:
        return await self.run(control.register_model(spec))

    async def generations(self) -> list[GenerationStatus]:
        return await self.run(control.generations())

    async def backup(self, destination: str) -> dict[str, Any]:
        return await self.run(control.backup(destination))

    async def set_time_scale(self, scale: float) -> float:
        return await self.run(control.set_time_scale(scale))

    async def create_generation(self, model: str) -> Generation:
        return await self.run(control.create_generation(model))

    async def snapshot(self) -> list[SnapshotTaken]:
        return await self.run(control.snapshot())

    async def verify(self, sample: int = 1000) -> dict[str, Any]:
        return await self.run(control.verify(sample))

    async def status(self) -> PlatformStatus:
        return await self.run(control.status())

    # Migrations. An empty id means the latest.

    async def start_migration(
        self, target_model: str, plan: Plan | None = None, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return await self.run(control.start_migration(target_model, plan, who, why, override))

    async def migration(self, migration_id: str = "") -> MigrationStatus:
        return await self.run(control.migration(migration_id))

    async def migrations(self) -> list[MigrationStatus]:
        return await self.run(control.migrations())

    async def migration_events(self, migration_id: str = "", after: int = 0) -> list[MigrationEvent]:
        return await self.run(control.migration_events(migration_id, after))

    def watch_migration(self, migration_id: str = "") -> AsyncIterator[MigrationStatus]:
        request = migration_pb2.GetMigrationRequest(id=migration_id)
        return self.watch(methods.WATCH_MIGRATION, request, migration_status_from_message)

    async def set_weight(
        self, migration_id: str, consumer: str, weight: float, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return await self.run(control.set_weight(migration_id, consumer, weight, who, why, override))

    async def pause_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return await self.run(control.control(methods.PAUSE_MIGRATION, migration_id, who, why))

    async def resume_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return await self.run(control.control(methods.RESUME_MIGRATION, migration_id, who, why))

    async def extend_window(
        self, migration_id: str, seconds: float, *, who: str, why: str
    ) -> MigrationStatus:
        return await self.run(control.extend_window(migration_id, seconds, who, why))

    async def revert_consumer(
        self, migration_id: str, consumer: str, *, who: str, why: str = ""
    ) -> MigrationStatus:
        return await self.run(control.revert_consumer(migration_id, consumer, who, why))

    async def cutover(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return await self.run(control.control(methods.CUTOVER, migration_id, who, why, override))

    async def rollback(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return await self.run(control.control(methods.ROLLBACK, migration_id, who, why))

    async def abort_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return await self.run(control.control(methods.ABORT_MIGRATION, migration_id, who, why))

    async def decommission(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return await self.run(control.control(methods.DECOMMISSION, migration_id, who, why, override))

    # Evaluation and engagement.

    async def import_golden_set(self, golden: GoldenSet, *, gate: bool = True) -> dict[str, Any]:
        return await self.run(control.import_golden_set(golden, gate))

    async def golden_sets(self) -> list[dict[str, Any]]:
        return await self.run(control.golden_sets())

    async def sample_queries(
        self,
        consumer: str,
        buckets: Mapping[str, int],
        *,
        depth: int = 10,
        min_count: int = 2,
        seed: int = 0,
    ) -> dict[str, Any]:
        return await self.run(control.sample_queries(consumer, buckets, depth, min_count, seed))

    async def evaluate(self, consumer: str, generation: int = 0, *, golden_set: str = "") -> dict[str, Any]:
        return await self.run(control.evaluate(consumer, generation, golden_set))

    async def compare(
        self,
        consumer: str,
        source: int,
        target: int,
        plan: Plan | None = None,
        *,
        equal_freshness: bool = False,
        golden_set: str = "",
    ) -> dict[str, Any]:
        return await self.run(control.compare(consumer, source, target, plan, equal_freshness, golden_set))

    async def evaluation_report(
        self,
        source: int = 0,
        target: int = 0,
        *,
        consumers: Sequence[str] = (),
        plan: Plan | None = None,
        migration_id: str = "",
    ) -> dict[str, Any]:
        return await self.run(control.evaluation_report(source, target, consumers, plan, migration_id))

    async def calibrate_ef(
        self, consumer: str, generation: int = 0, *, apply: bool = False
    ) -> dict[str, Any]:
        return await self.run(control.calibrate_ef(consumer, generation, apply))

    async def calibrate_scores(self, source: int, target: int) -> dict[str, Any]:
        return await self.run(control.calibrate_scores(source, target))

    async def check_parity(self) -> dict[str, Any]:
        return await self.run(control.check_parity())

    async def preflight(self, target_model: str, plan: Plan | None = None) -> dict[str, Any]:
        return await self.run(control.preflight(target_model, plan))

    async def report_engagement(
        self, consumer: str, arm: str, totals: Mapping[str, float], *, simulated: bool, migration_id: str = ""
    ) -> None:
        await self.run(control.report_engagement(consumer, arm, totals, simulated, migration_id))

    async def compare_engagement(self, consumer: str, migration_id: str = "") -> dict[str, Any]:
        return await self.run(control.compare_engagement(consumer, migration_id))
