"""What each unary control call sends and how its answer is read: registries, migrations, evaluation."""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedcore.api import GenerationStatus, PlatformStatus, SnapshotTaken
from embedcore.client import methods
from embedcore.client.calls import refusing
from embedcore.client.methods import Call, Method
from embedcore.migration_types import MigrationEvent, MigrationStatus, Plan
from embedcore.types import Consumer, Generation, ModelSpec
from embedcore.v1 import admin_pb2, common_pb2, engagement_pb2, evaluation_pb2, migration_pb2
from embedcore.wire_documents import (
    consumer_from_message,
    events_from_message,
    generation_from_message,
    generation_status_from_message,
    json_object,
    migration_status_from_message,
    model_from_message,
    platform_status_from_message,
    totals_to_message,
)

if TYPE_CHECKING:
    from embedcore.evaluation.golden import GoldenSet

_ARMS = {"control": common_pb2.ARM_CONTROL, "canary": common_pb2.ARM_CANARY}

# Calls that read whole indexes.
_LONG_S = 3_600.0

# Registries.


def consumers() -> Call[list[Consumer]]:
    return Call(
        methods.LIST_CONSUMERS,
        admin_pb2.ListConsumersRequest(),
        lambda message: [consumer_from_message(one) for one in message.consumers],
    )


def set_consumer(consumer: Consumer) -> Call[Consumer]:
    message = admin_pb2.SetConsumerRequest(consumer_json=consumer.model_dump_json())
    return Call(methods.SET_CONSUMER, message, consumer_from_message)


def models() -> Call[list[ModelSpec]]:
    return Call(
        methods.LIST_MODELS,
        admin_pb2.ListModelsRequest(),
        lambda message: [model_from_message(one) for one in message.models],
    )


def register_model(spec: ModelSpec) -> Call[ModelSpec]:
    message = admin_pb2.RegisterModelRequest(spec_json=spec.model_dump_json())
    return Call(methods.REGISTER_MODEL, message, model_from_message)


def generations() -> Call[list[GenerationStatus]]:
    return Call(
        methods.LIST_GENERATIONS,
        admin_pb2.ListGenerationsRequest(),
        lambda message: [generation_status_from_message(one) for one in message.generations],
    )


@refusing
def create_generation(model: str) -> Call[Generation]:
    message = admin_pb2.CreateGenerationRequest(model=model)
    return Call(methods.CREATE_GENERATION, message, generation_from_message)


def status() -> Call[PlatformStatus]:
    return Call(methods.GET_STATUS, admin_pb2.GetStatusRequest(), platform_status_from_message)


def snapshot() -> Call[list[SnapshotTaken]]:
    return Call(
        methods.TAKE_SNAPSHOTS,
        admin_pb2.TakeSnapshotsRequest(),
        lambda message: [
            SnapshotTaken(one.generation, one.shard, one.watermark, one.path, one.bytes)
            for one in message.snapshots
        ],
        timeout=_LONG_S,
    )


@refusing
def verify(sample: int) -> Call[dict[str, Any]]:
    return Call(
        methods.VERIFY,
        admin_pb2.VerifyRequest(sample=sample),
        lambda message: json_object(message.report_json, "report_json"),
        timeout=_LONG_S,
    )


@refusing
def backup(destination: str) -> Call[dict[str, Any]]:
    message = admin_pb2.BackupRequest(destination=destination)
    return Call(methods.BACKUP, message, lambda answer: json_object(answer.manifest_json, "manifest_json"))


@refusing
def set_time_scale(scale: float) -> Call[float]:
    message = admin_pb2.SetTimeScaleRequest(scale=scale)
    return Call(methods.SET_TIME_SCALE, message, lambda answer: float(answer.now))


# Migrations.


@refusing
def start_migration(
    target_model: str, plan: Plan | None, who: str, why: str, override: str
) -> Call[MigrationStatus]:
    message = migration_pb2.StartMigrationRequest(
        target_model=target_model,
        plan_json=_plan_json(plan),
        who=who,
        why=why,
        override_reason=override,
    )
    return Call(methods.START_MIGRATION, message, migration_status_from_message)


@refusing
def migration(migration_id: str) -> Call[MigrationStatus]:
    message = migration_pb2.GetMigrationRequest(id=migration_id)
    return Call(methods.GET_MIGRATION, message, migration_status_from_message)


def migrations() -> Call[list[MigrationStatus]]:
    return Call(
        methods.LIST_MIGRATIONS,
        migration_pb2.ListMigrationsRequest(),
        lambda message: [migration_status_from_message(one) for one in message.migrations],
    )


@refusing
def migration_events(migration_id: str, after: int) -> Call[list[MigrationEvent]]:
    message = migration_pb2.GetMigrationRequest(id=migration_id, events_after=after)
    return Call(methods.GET_MIGRATION, message, events_from_message)


@refusing
def set_weight(
    migration_id: str, consumer: str, weight: float, who: str, why: str, override: str
) -> Call[MigrationStatus]:
    message = migration_pb2.SetWeightRequest(
        id=migration_id, consumer=consumer, weight=weight, who=who, why=why, override_reason=override
    )
    return Call(methods.SET_WEIGHT, message, migration_status_from_message)


@refusing
def revert_consumer(migration_id: str, consumer: str, who: str, why: str) -> Call[MigrationStatus]:
    message = migration_pb2.RevertConsumerRequest(id=migration_id, consumer=consumer, who=who, why=why)
    return Call(methods.REVERT_CONSUMER, message, migration_status_from_message)


@refusing
def extend_window(migration_id: str, seconds: float, who: str, why: str) -> Call[MigrationStatus]:
    message = migration_pb2.ExtendWindowRequest(id=migration_id, seconds=seconds, who=who, why=why)
    return Call(methods.EXTEND_WINDOW, message, migration_status_from_message)


@refusing
def control(
    method: Method, migration_id: str, who: str, why: str, override: str = ""
) -> Call[MigrationStatus]:
    """Pause, resume, cutover, rollback, abort, decommission."""
    message = migration_pb2.ControlRequest(id=migration_id, who=who, why=why, override_reason=override)
    return Call(method, message, migration_status_from_message)


# Evaluation and engagement.


def import_golden_set(golden: GoldenSet, gate: bool) -> Call[dict[str, Any]]:
    packed = lzma.compress(golden.model_dump_json().encode(), preset=1)
    message = evaluation_pb2.ImportGoldenSetRequest(golden_set_json=packed, signal=not gate)
    return Call(methods.IMPORT_GOLDEN_SET, message, _document)


def golden_sets() -> Call[list[dict[str, Any]]]:
    return Call(
        methods.LIST_GOLDEN_SETS,
        evaluation_pb2.ListGoldenSetsRequest(),
        lambda message: [_document(one) for one in message.golden_sets],
    )


@refusing
def sample_queries(
    consumer: str, buckets: Mapping[str, int], depth: int, min_count: int, seed: int
) -> Call[dict[str, Any]]:
    message = evaluation_pb2.SampleQueriesRequest(
        consumer=consumer, buckets=dict(buckets), depth=depth, min_count=min_count, seed=seed
    )
    return Call(methods.SAMPLE_QUERIES, message, _document)


@refusing
def evaluate(consumer: str, generation: int, golden_set: str) -> Call[dict[str, Any]]:
    message = evaluation_pb2.EvaluateRequest(consumer=consumer, generation=generation, golden_set=golden_set)
    return Call(methods.EVALUATE, message, _document)


@refusing
def compare(
    consumer: str, source: int, target: int, plan: Plan | None, equal_freshness: bool, golden_set: str
) -> Call[dict[str, Any]]:
    message = evaluation_pb2.CompareRequest(
        consumer=consumer,
        source_generation=source,
        target_generation=target,
        plan_json=_plan_json(plan),
        equal_freshness=equal_freshness,
        golden_set=golden_set,
    )
    return Call(methods.COMPARE, message, _document)


@refusing
def evaluation_report(
    source: int, target: int, consumers: Sequence[str], plan: Plan | None, migration_id: str
) -> Call[dict[str, Any]]:
    message = evaluation_pb2.GetReportRequest(
        migration=migration_id,
        source_generation=source,
        target_generation=target,
        consumers=consumers,
        plan_json=_plan_json(plan),
    )
    return Call(methods.GET_REPORT, message, _document)


@refusing
def calibrate_ef(consumer: str, generation: int, apply: bool) -> Call[dict[str, Any]]:
    message = evaluation_pb2.CalibrateEfRequest(consumer=consumer, generation=generation, apply=apply)
    return Call(methods.CALIBRATE_EF, message, _document)


@refusing
def calibrate_scores(source: int, target: int) -> Call[dict[str, Any]]:
    message = evaluation_pb2.CalibrateScoresRequest(source_generation=source, target_generation=target)
    return Call(methods.CALIBRATE_SCORES, message, _document)


def check_parity() -> Call[dict[str, Any]]:
    return Call(methods.CHECK_PARITY, evaluation_pb2.CheckParityRequest(), _document)


@refusing
def preflight(target_model: str, plan: Plan | None) -> Call[dict[str, Any]]:
    message = evaluation_pb2.PreflightRequest(target_model=target_model, plan_json=_plan_json(plan))
    return Call(methods.PREFLIGHT, message, _document)


def _plan_json(plan: Plan | None) -> str:
    return "" if plan is None else plan.model_dump_json()


def _document(message: Any) -> dict[str, Any]:
    return json_object(message.document_json, "document_json")


@refusing
def report_engagement(
    consumer: str, arm: str, totals: Mapping[str, float], simulated: bool, migration_id: str
) -> Call[None]:
    message = engagement_pb2.ReportEngagementRequest(
        consumer=consumer,
        arm=_ARMS.get(arm, common_pb2.ARM_UNSPECIFIED),
        simulated=simulated,
        migration=migration_id,
    )
    return Call(methods.REPORT_ENGAGEMENT, totals_to_message(totals, message), lambda _: None)


@refusing
def compare_engagement(consumer: str, migration_id: str) -> Call[dict[str, Any]]:
    message = engagement_pb2.CompareEngagementRequest(consumer=consumer, migration=migration_id)
    return Call(
        methods.COMPARE_ENGAGEMENT,
        message,
        lambda answer: json_object(answer.evidence_json, "evidence_json"),
    )
