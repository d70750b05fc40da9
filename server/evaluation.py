"""EvaluationService and EngagementService: what gates are computed from."""
# ruff: noqa: N802 - gRPC names its methods so

from __future__ import annotations

import lzma

import grpc

from embedcore.errors import InvalidArgument
from embedcore.evaluation.golden import GoldenSet
from embedcore.server.handlers import Service, later, unary
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
        document = self.platform.import_golden_set(golden)
        return evaluation_pb2.GoldenSetInfo(
            name=golden.name,
            consumer=golden.consumer,
            queries=len(golden.queries),
            digest=golden.digest,
            document_json=json_of(document),
        )

    @unary
    def Evaluate(
        self, request: evaluation_pb2.EvaluateRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Evaluation:
        _consumer(request.consumer)
        return evaluation_to_message(self.platform.evaluate(request.consumer, request.generation))

    @unary
    def Compare(
        self, request: evaluation_pb2.CompareRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Comparison:
        _consumer(request.consumer)
        return comparison_to_message(
            self.platform.compare(request.consumer, request.source_generation, request.target_generation)
        )

    def GetReport(
        self, request: evaluation_pb2.GetReportRequest, context: grpc.ServicerContext
    ) -> evaluation_pb2.Report:
        later(context, "GetReport")


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
