"""EvaluationService and EngagementService: what gates are computed from."""
# ruff: noqa: N802 - gRPC names its methods so

from __future__ import annotations

import lzma
from collections.abc import Mapping
from typing import Any

import grpc

from embedcore.errors import InvalidArgument
from embedcore.evaluation.golden import GoldenSet
from embedcore.evaluation.reporting.page import render
from embedcore.migration_types import Plan
from embedcore.server.handlers import Service, unary
from embedcore.v1 import (
    common_pb2,
    engagement_pb2,
    engagement_pb2_grpc,
    evaluation_pb2,
    evaluation_pb2_grpc,
)
from embedcore.wire_documents import (
    comparison_to_message,
    document_from_json,
    evaluation_to_message,
    json_of,
    totals_from_message,
)

# A golden set of 100,000 queries is some 30 MB; a small file may unpack to anything.
MAX_GOLDEN_BYTES = 256 << 20
_XZ = b"\xfd7zXZ\x00"
_ARMS = {common_pb2.ARM_CONTROL: "control", common_pb2.ARM_CANARY: "canary"}


def unpack_golden_set(data: bytes) -> bytes:
    """JSON of a golden set, which may come xz-compressed."""
    if not data.startswith(_XZ):
        return data
    unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MAX_GOLDEN_BYTES)
    try:
        text = unpacker.decompress(data, max_length=MAX_GOLDEN_BYTES + 1)
    except lzma.LZMAError as error:
        raise InvalidArgument(f"golden_set_json is damaged xz data: {error}; send it again") from None
    if len(text) > MAX_GOLDEN_BYTES:
        raise InvalidArgument(f"golden_set_json unpacks to more than {MAX_GOLDEN_BYTES:,} bytes: send less")
    if not unpacker.eof:
        raise InvalidArgument("golden_set_json is cut off xz data: send all of it")
    return text


class EvaluationService(Service, evaluation_pb2_grpc.EvaluationServiceServicer):
    @unary
    def ImportGoldenSet(
        self, request: evaluation_pb2.ImportGoldenSetRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.GoldenSetInfo:
        text = unpack_golden_set(request.golden_set_json)
        golden = document_from_json(GoldenSet, text, "golden_set_json")
        return _golden_info(self.platform.import_golden_set(golden, gate=not request.signal))

    @unary
    def ListGoldenSets(
        self, request: evaluation_pb2.ListGoldenSetsRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.ListGoldenSetsResponse:
        return evaluation_pb2.ListGoldenSetsResponse(
            golden_sets=[_golden_info(document) for document in self.platform.golden_sets()]
        )

    @unary
    def SampleQueries(
        self, request: evaluation_pb2.SampleQueriesRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.QuerySample:
        _consumer(request.consumer)
        document = self.platform.sample_queries(
            request.consumer,
            dict(request.buckets),
            depth=request.depth or 10,
            min_count=request.min_count or 2,
            seed=request.seed,
        )
        return evaluation_pb2.QuerySample(document_json=json_of(document))

    @unary
    def Evaluate(
        self, request: evaluation_pb2.EvaluateRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Evaluation:
        _consumer(request.consumer)
        return evaluation_to_message(
            self.platform.evaluate(request.consumer, request.generation, golden_set=request.golden_set)
        )

    @unary
    def Compare(
        self, request: evaluation_pb2.CompareRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Comparison:
        _consumer(request.consumer)
        return comparison_to_message(
            self.platform.compare(
                request.consumer,
                request.source_generation,
                request.target_generation,
                _plan(request.plan_json),
                equal_freshness=request.equal_freshness,
                golden_set=request.golden_set,
            )
        )

    @unary
    def GetReport(
        self, request: evaluation_pb2.GetReportRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Report:
        document = self.platform.evaluation_report(
            request.source_generation,
            request.target_generation,
            consumers=list(request.consumers),
            plan=_plan(request.plan_json),
            migration_id=request.migration,
        )
        return evaluation_pb2.Report(
            html=render(document).encode(),
            document_json=json_of(document),
            go=bool(document["go"]),
            headline=str(document["headline"]),
        )

    @unary
    def CalibrateEf(
        self, request: evaluation_pb2.CalibrateEfRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.EfCalibration:
        _consumer(request.consumer)
        document = self.platform.calibrate_ef(request.consumer, request.generation, apply=request.apply)
        return evaluation_pb2.EfCalibration(ef_search=document["ef_search"], document_json=json_of(document))

    @unary
    def CalibrateScores(
        self, request: evaluation_pb2.CalibrateScoresRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.ScoreCalibration:
        document = self.platform.calibrate_scores(request.source_generation, request.target_generation)
        return evaluation_pb2.ScoreCalibration(
            method=str(document["method"]), document_json=json_of(document)
        )

    @unary
    def CheckParity(
        self, request: evaluation_pb2.CheckParityRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Parity:
        document = self.platform.check_parity()
        return evaluation_pb2.Parity(equal=bool(document["equal"]), document_json=json_of(document))

    @unary
    def Preflight(
        self, request: evaluation_pb2.PreflightRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.PreflightVerdict:
        if not request.target_model:
            raise InvalidArgument("no target model named: name one, as ListModels shows them")
        document = self.platform.preflight(request.target_model, _plan(request.plan_json))
        return evaluation_pb2.PreflightVerdict(
            passed=bool(document["passed"]),
            verdict=str((document["verdict"] or {}).get("verdict", "")),
            document_json=json_of(document),
        )


class EngagementService(Service, engagement_pb2_grpc.EngagementServiceServicer):
    @unary
    def Report(
        self, request: engagement_pb2.ReportEngagementRequest, context: grpc.ServicerContext
    ) -> engagement_pb2.ReportEngagementResponse:
        _consumer(request.consumer)
        arm = _ARMS.get(request.arm)
        if arm is None:
            raise InvalidArgument(
                "no arm named: say ARM_CONTROL or ARM_CANARY, as the answers' provenance did"
            )
        self.platform.report_engagement(
            request.consumer,
            arm,
            totals_from_message(request),
            simulated=request.simulated,
            migration_id=request.migration,
        )
        return engagement_pb2.ReportEngagementResponse()

    @unary
    def Compare(
        self, request: engagement_pb2.CompareEngagementRequest, context: grpc.ServicerContext
    ) -> engagement_pb2.CompareEngagementResponse:
        _consumer(request.consumer)
        document = self.platform.compare_engagement(request.consumer, request.migration)
        return engagement_pb2.CompareEngagementResponse(
            passed=bool(document.get("passed", False)),
            summary=str(document.get("summary", "")),
            evidence_json=json_of(document),
        )


def _consumer(name: str) -> None:
    if not name:
        raise InvalidArgument("no consumer named: name one, as ListConsumers shows them")


def _plan(text: str) -> Plan | None:
    return document_from_json(Plan, text, "plan_json") if text else None


def _golden_info(document: Mapping[str, Any]) -> evaluation_pb2.GoldenSetInfo:
    return evaluation_pb2.GoldenSetInfo(
        name=str(document["name"]),
        consumer=str(document.get("consumer", "")),
        queries=int(document["queries"]),
        digest=str(document["digest"]),
        document_json=json_of(document),
    )
