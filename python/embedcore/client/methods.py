"""The methods that clients call: their paths, messages, port, and whether a retry is safe.

Checked against the protos by a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from embedcore.v1 import (
    admin_pb2,
    common_pb2,
    embed_pb2,
    engagement_pb2,
    evaluation_pb2,
    items_pb2,
    migration_pb2,
    search_pb2,
)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Method:
    """``idempotent``: answers the same when sent twice, so gRPC may retry it. ``long``: a stream, or a call
    that may take minutes; it goes to the streaming port, where it cannot hold up a query."""

    service: str
    name: str
    response: type[Message]
    idempotent: bool = False
    long: bool = False
    path: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", f"/embedcore.v1.{self.service}/{self.name}")


def serialized(message: Message) -> bytes:
    return message.SerializeToString()


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """One unary call, the same for the blocking and the asynchronous client."""

    method: Method
    request: Message
    parse: Callable[[Any], Result]
    timeout: float | None = None  # seconds; None: the client's default


_SEARCH, _ITEMS, _MIGRATION = "SearchService", "ItemService", "MigrationService"
_EVALUATION, _ENGAGEMENT, _ADMIN = "EvaluationService", "EngagementService", "AdminService"
_STATUS = migration_pb2.MigrationStatus

SEARCH = Method(_SEARCH, "Search", search_pb2.SearchResponse, idempotent=True)
BATCH_SEARCH = Method(_SEARCH, "BatchSearch", search_pb2.BatchSearchResponse, idempotent=True)
SEARCH_STREAM = Method(_SEARCH, "SearchStream", search_pb2.SearchResponse, long=True)
# Writes are not retried: a lost acknowledgement followed by someone else's newer write would make the
# retry an overwrite. The caller knows whether that matters.
UPSERT_ITEMS = Method(_ITEMS, "UpsertItems", items_pb2.WriteResponse)
DELETE_ITEMS = Method(_ITEMS, "DeleteItems", items_pb2.WriteResponse)
GET_ITEM = Method(_ITEMS, "GetItem", common_pb2.StoredItem, idempotent=True)
INGEST_STREAM = Method(_ITEMS, "IngestStream", items_pb2.WriteResponse, long=True)
EMBED = Method("EmbedService", "Embed", embed_pb2.EmbedResponse, idempotent=True)

START_MIGRATION = Method(_MIGRATION, "StartMigration", _STATUS, long=True)
GET_MIGRATION = Method(_MIGRATION, "GetMigration", _STATUS, idempotent=True)
LIST_MIGRATIONS = Method(_MIGRATION, "ListMigrations", migration_pb2.ListMigrationsResponse, idempotent=True)
WATCH_MIGRATION = Method(_MIGRATION, "WatchMigration", _STATUS, long=True)
# These compute gates or move data. Revert, rollback and pause do not: they must get through at once.
SET_WEIGHT = Method(_MIGRATION, "SetWeight", _STATUS, long=True)
CUTOVER = Method(_MIGRATION, "Cutover", _STATUS, long=True)
ABORT_MIGRATION = Method(_MIGRATION, "AbortMigration", _STATUS, long=True)
DECOMMISSION = Method(_MIGRATION, "Decommission", _STATUS, long=True)
PAUSE_MIGRATION = Method(_MIGRATION, "PauseMigration", _STATUS)
RESUME_MIGRATION = Method(_MIGRATION, "ResumeMigration", _STATUS)
EXTEND_WINDOW = Method(_MIGRATION, "ExtendWindow", _STATUS)
REVERT_CONSUMER = Method(_MIGRATION, "RevertConsumer", _STATUS)
ROLLBACK = Method(_MIGRATION, "Rollback", _STATUS)

IMPORT_GOLDEN_SET = Method(_EVALUATION, "ImportGoldenSet", evaluation_pb2.GoldenSetInfo, long=True)
EVALUATE = Method(_EVALUATION, "Evaluate", evaluation_pb2.Evaluation, idempotent=True, long=True)
COMPARE = Method(_EVALUATION, "Compare", evaluation_pb2.Comparison, idempotent=True, long=True)
# A report and a calibration compute for seconds to minutes and change nothing but what they keep.
GET_REPORT = Method(_EVALUATION, "GetReport", evaluation_pb2.Report, idempotent=True, long=True)
LIST_GOLDEN_SETS = Method(
    _EVALUATION, "ListGoldenSets", evaluation_pb2.ListGoldenSetsResponse, idempotent=True
)
SAMPLE_QUERIES = Method(_EVALUATION, "SampleQueries", evaluation_pb2.QuerySample, idempotent=True, long=True)
CALIBRATE_EF = Method(_EVALUATION, "CalibrateEf", evaluation_pb2.EfCalibration, long=True)
CALIBRATE_SCORES = Method(_EVALUATION, "CalibrateScores", evaluation_pb2.ScoreCalibration, long=True)
CHECK_PARITY = Method(_EVALUATION, "CheckParity", evaluation_pb2.Parity, idempotent=True, long=True)
PREFLIGHT = Method(_EVALUATION, "Preflight", evaluation_pb2.PreflightVerdict, idempotent=True, long=True)
REPORT_ENGAGEMENT = Method(_ENGAGEMENT, "Report", engagement_pb2.ReportEngagementResponse)
COMPARE_ENGAGEMENT = Method(_ENGAGEMENT, "Compare", engagement_pb2.CompareEngagementResponse, idempotent=True)

LIST_CONSUMERS = Method(_ADMIN, "ListConsumers", admin_pb2.ListConsumersResponse, idempotent=True)
SET_CONSUMER = Method(_ADMIN, "SetConsumer", admin_pb2.ConsumerInfo, idempotent=True)
LIST_MODELS = Method(_ADMIN, "ListModels", admin_pb2.ListModelsResponse, idempotent=True)
REGISTER_MODEL = Method(_ADMIN, "RegisterModel", admin_pb2.ModelInfo, long=True)
LIST_GENERATIONS = Method(_ADMIN, "ListGenerations", admin_pb2.ListGenerationsResponse, idempotent=True)
CREATE_GENERATION = Method(_ADMIN, "CreateGeneration", admin_pb2.GenerationInfo, long=True)
SET_TIME_SCALE = Method(_ADMIN, "SetTimeScale", admin_pb2.SetTimeScaleResponse, idempotent=True)
TAKE_SNAPSHOTS = Method(_ADMIN, "TakeSnapshots", admin_pb2.TakeSnapshotsResponse, long=True)
VERIFY = Method(_ADMIN, "Verify", admin_pb2.VerifyResponse, idempotent=True, long=True)
BACKUP = Method(_ADMIN, "Backup", admin_pb2.BackupManifest, long=True)
GET_STATUS = Method(_ADMIN, "GetStatus", admin_pb2.PlatformStatus, idempotent=True)

METHODS: tuple[Method, ...] = tuple(value for value in globals().values() if isinstance(value, Method))


def service_config() -> str:
    """gRPC's own retry policy: idempotent calls that met UNAVAILABLE, five attempts over some 2 s."""
    names = [
        {"service": f"embedcore.v1.{method.service}", "method": method.name}
        for method in METHODS
        if method.idempotent
    ]
    retry = {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": retry}]})
