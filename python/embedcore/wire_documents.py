"""Conversions between embedcore's documents and the messages of embedcore.v1: registries, migrations.

A document travels whole as JSON; the fields beside it repeat what other languages need without a schema
of the document. Reading takes the JSON alone. All functions are pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from embedcore.api import GenerationStatus, PlatformStatus
from embedcore.errors import InvalidArgument
from embedcore.migration_types import ConsumerProgress, GateResult, MigrationEvent, MigrationStatus
from embedcore.types import Consumer, Document, Generation, ModelSpec
from embedcore.v1 import admin_pb2, engagement_pb2, evaluation_pb2, migration_pb2
from embedcore.wire_vectors import fingerprint_to_message

AnyDocument = TypeVar("AnyDocument", bound=Document)

# Totals of an arm, as Store.add_engagement keeps them: counts, then sums.
_COUNTS = ("impressions", "clicks", "compared", "agreed")
_SUMS = ("depth", "depth_squared")


def _plain(value: Any) -> Any:
    """What JSON has no form for: NumPy scalars and arrays, and anything else as text."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)


def json_of(value: Any) -> str:
    """Compact JSON of a plain document. NaN and infinities, which JSON lacks, become null."""
    return to_json(value, inf_nan_mode="null", fallback=_plain).decode()


def json_object(text: str | bytes, name: str) -> dict[str, Any]:
    """The object that a JSON text holds; empty text is an empty object."""
    if not text:
        return {}
    try:
        value = from_json(text)
    except ValueError as error:
        raise InvalidArgument(f"{name} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"{name} holds a {type(value).__name__}: send a JSON object")
    return value


def document_from_json(kind: type[AnyDocument], text: str | bytes, name: str) -> AnyDocument:
    """Validates a document; what is wrong with it becomes one line that names the fields."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise InvalidArgument(
            f"{name} is no valid {kind.__name__}: {'; '.join(problems[:5])}{more}", {"problems": problems}
        ) from None


# Registries.


def consumer_to_message(consumer: Consumer) -> admin_pb2.ConsumerInfo:
    return admin_pb2.ConsumerInfo(name=consumer.name, consumer_json=consumer.model_dump_json())


def consumer_from_message(message: admin_pb2.ConsumerInfo) -> Consumer:
    return document_from_json(Consumer, message.consumer_json, "consumer_json")


def model_to_message(spec: ModelSpec) -> admin_pb2.ModelInfo:
    return admin_pb2.ModelInfo(
        name=spec.name,
        backend=spec.backend,
        fingerprint=fingerprint_to_message(spec.fingerprint),
        spec_json=spec.model_dump_json(),
    )


def model_from_message(message: admin_pb2.ModelInfo) -> ModelSpec:
    return document_from_json(ModelSpec, message.spec_json, "spec_json")


def generation_to_message(
    generation: Generation, items: int = 0, applied: Mapping[int, int] | None = None
) -> admin_pb2.GenerationInfo:
    return admin_pb2.GenerationInfo(
        number=generation.number,
        model=generation.model,
        state=generation.state,
        fingerprint=fingerprint_to_message(generation.fingerprint),
        items=items,
        applied=applied,
        generation_json=generation.model_dump_json(),
    )


def generation_from_message(message: admin_pb2.GenerationInfo) -> Generation:
    return document_from_json(Generation, message.generation_json, "generation_json")


def generation_status_to_message(status: GenerationStatus) -> admin_pb2.GenerationInfo:
    return generation_to_message(status.generation, status.items, status.applied)


def generation_status_from_message(message: admin_pb2.GenerationInfo) -> GenerationStatus:
    return GenerationStatus(
        generation=generation_from_message(message), items=message.items, applied=dict(message.applied)
    )


def platform_status_to_message(status: PlatformStatus) -> admin_pb2.PlatformStatus:
    return admin_pb2.PlatformStatus(
        ready=status.ready,
        live_items=status.live_items,
        repair_queue=status.repair_queue,
        simulated=status.simulated,
        now=status.now,
        time_scale=status.time_scale,
        version=status.version,
        status_json=json_of(status.details),
    )


def platform_status_from_message(message: admin_pb2.PlatformStatus) -> PlatformStatus:
    return PlatformStatus(
        ready=message.ready,
        live_items=message.live_items,
        repair_queue=message.repair_queue,
        simulated=message.simulated,
        now=message.now,
        time_scale=message.time_scale,
        version=message.version,
        details=json_object(message.status_json, "status_json"),
    )


# Migrations.


def _gate_to_message(gate: GateResult) -> migration_pb2.GateResult:
    return migration_pb2.GateResult(
        gate=gate.gate,
        passed=gate.passed,
        summary=gate.summary,
        evidence_json=json_of(gate.evidence),
        at=gate.at,
    )


def _progress_to_message(consumer: str, progress: ConsumerProgress) -> migration_pb2.ConsumerProgress:
    return migration_pb2.ConsumerProgress(
        consumer=consumer,
        weight=progress.weight,
        reverted=progress.reverted,
        held=progress.held,
        gates=[_gate_to_message(gate) for gate in progress.gates.values()],
    )


def event_to_message(event: MigrationEvent) -> migration_pb2.MigrationEvent:
    return migration_pb2.MigrationEvent(
        number=event.number,
        at=event.at,
        who=event.who,
        what=event.what,
        why=event.why,
        evidence_json=json_of(event.evidence),
    )


def event_from_message(message: migration_pb2.MigrationEvent, migration: str) -> MigrationEvent:
    return MigrationEvent(
        migration=migration,
        number=message.number,
        at=message.at,
        who=message.who,
        what=message.what,
        why=message.why,
        evidence=json_object(message.evidence_json, "evidence_json"),
    )


def migration_status_to_message(
    status: MigrationStatus, events: Sequence[MigrationEvent] = ()
) -> migration_pb2.MigrationStatus:
    migration = status.migration
    return migration_pb2.MigrationStatus(
        id=migration.id,
        source_generation=migration.source,
        target_generation=migration.target,
        target_model=migration.target_model,
        phase=migration.phase.value,
        paused=migration.paused,
        coverage=status.coverage,
        live_items=status.live_items,
        backfill_rate=status.backfill_rate,
        eta_seconds=status.eta_seconds,
        repair_queue=status.repair_queue,
        window_left_seconds=status.window_left_seconds,
        consumers=[
            _progress_to_message(consumer, progress) for consumer, progress in migration.consumers.items()
        ],
        cutover_blockers=status.cutover_blockers,
        events=[event_to_message(event) for event in events],
        simulated_time=status.simulated_time,
        now=status.now,
        status_json=json_of(status.model_dump()),
    )


def migration_status_from_message(message: migration_pb2.MigrationStatus) -> MigrationStatus:
    return document_from_json(MigrationStatus, message.status_json, "status_json")


def events_from_message(message: migration_pb2.MigrationStatus) -> list[MigrationEvent]:
    return [event_from_message(event, message.id) for event in message.events]


# Evaluation and engagement: plain documents, with the numbers that every reader wants beside them.


def _number(document: Mapping[str, Any], name: str) -> float:
    """0 where the document says nothing; the document itself tells the two apart."""
    value = document.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def evaluation_to_message(document: Mapping[str, Any], whole: bool = True) -> evaluation_pb2.Evaluation:
    """``whole``: with the complete document; an evaluation inside a comparison is part of that one's."""
    return evaluation_pb2.Evaluation(
        consumer=str(document.get("consumer", "")),
        generation=int(_number(document, "generation")),
        metric=str(document.get("metric_name", "")),
        value=_number(document, "metric"),
        lower=_number(document, "lower"),
        upper=_number(document, "upper"),
        queries=int(_number(document, "queries")),
        document_json=json_of(document) if whole else "",
    )


def comparison_to_message(document: Mapping[str, Any]) -> evaluation_pb2.Comparison:
    inner = document.get("comparison")
    numbers: Mapping[str, Any] = inner if isinstance(inner, Mapping) else document
    sides = {side: document.get(side) for side in ("source", "target")}
    return evaluation_pb2.Comparison(
        difference=_number(numbers, "difference"),
        lower=_number(numbers, "lower"),
        upper=_number(numbers, "upper"),
        p_value=_number(numbers, "p_value"),
        document_json=json_of(document),
        **{
            side: evaluation_to_message(value, whole=False)
            for side, value in sides.items()
            if isinstance(value, Mapping)
        },
    )


def totals_to_message(
    totals: Mapping[str, float], message: engagement_pb2.ReportEngagementRequest
) -> engagement_pb2.ReportEngagementRequest:
    """Fills the totals in."""
    for name, value in totals.items():
        if name not in _COUNTS + _SUMS:
            raise InvalidArgument(f"engagement has no total {name!r}: send {', '.join(_COUNTS + _SUMS)}")
        if not math.isfinite(value) or value < 0 or (name in _COUNTS and value != int(value)):
            raise InvalidArgument(f"engagement total {name} is {value}: send a count or a sum from 0 on")
        setattr(message, name, int(value) if name in _COUNTS else float(value))
    return message


def totals_from_message(message: engagement_pb2.ReportEngagementRequest) -> dict[str, float]:
    """The totals that are not 0: adding a 0 changes nothing."""
    totals = {name: float(getattr(message, name)) for name in _COUNTS + _SUMS}
    for name in _SUMS:
        if not math.isfinite(totals[name]) or totals[name] < 0:
            raise InvalidArgument(f"engagement total {name} is {totals[name]}: send a sum from 0 on")
    return {name: value for name, value in totals.items() if value}
