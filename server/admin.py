"""AdminService: registries and status. Upkeep and alerts are in the protos for later versions."""
# ruff: noqa: N802 - gRPC names its methods so

from __future__ import annotations

import json
from pathlib import PurePath

import grpc

from embedcore.api import PlatformApi
from embedcore.errors import InvalidArgument, PermissionDenied
from embedcore.server.errors import Failures
from embedcore.server.handlers import Service, StreamSlots, later, unary
from embedcore.types import Consumer, ModelSpec
from embedcore.v1 import admin_pb2, admin_pb2_grpc
from embedcore.wire_documents import (
    consumer_to_message,
    document_from_json,
    generation_status_to_message,
    generation_to_message,
    json_of,
    model_to_message,
    platform_status_to_message,
)


class AdminService(Service, admin_pb2_grpc.AdminServiceServicer):
    def __init__(
        self, platform: PlatformApi, failures: Failures, slots: StreamSlots, callable_targets: bool
    ) -> None:
        super().__init__(platform, failures, slots)
        self._callable_targets = callable_targets

    @unary
    def ListConsumers(
        self, request: admin_pb2.ListConsumersRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListConsumersResponse:
        return admin_pb2.ListConsumersResponse(
            consumers=[consumer_to_message(consumer) for consumer in self.platform.consumers()]
        )

    @unary
    def SetConsumer(
        self, request: admin_pb2.SetConsumerRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ConsumerInfo:
        consumer = document_from_json(Consumer, request.consumer_json, "consumer_json")
        return consumer_to_message(self.platform.set_consumer(consumer))

    @unary
    def ListModels(
        self, request: admin_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListModelsResponse:
        return admin_pb2.ListModelsResponse(
            models=[model_to_message(spec) for spec in self.platform.models()]
        )

    @unary
    def RegisterModel(
        self, request: admin_pb2.RegisterModelRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ModelInfo:
        spec = document_from_json(ModelSpec, request.spec_json, "spec_json")
        if spec.backend == "callable" and spec.options.get("target") and not self._callable_targets:
            # It would let everyone who may connect run any Python function of this process.
            raise PermissionDenied(
                f"model {spec.name!r} names a Python function to load, which this server takes from no "
                f"client: register it where the server runs, or start the server with callable_targets"
            )
        return model_to_message(self.platform.register_model(spec))

    @unary
    def ListGenerations(
        self, request: admin_pb2.ListGenerationsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListGenerationsResponse:
        return admin_pb2.ListGenerationsResponse(
            generations=[generation_status_to_message(status) for status in self.platform.generations()]
        )

    @unary
    def CreateGeneration(
        self, request: admin_pb2.CreateGenerationRequest, context: grpc.ServicerContext
    ) -> admin_pb2.GenerationInfo:
        if not request.model:
            raise InvalidArgument("no model named: name one, as ListModels shows them")
        return generation_to_message(self.platform.create_generation(request.model))

    @unary
    def SetTimeScale(
        self, request: admin_pb2.SetTimeScaleRequest, context: grpc.ServicerContext
    ) -> admin_pb2.SetTimeScaleResponse:
        return admin_pb2.SetTimeScaleResponse(now=self.platform.set_time_scale(request.scale))

    @unary
    def Backup(
        self, request: admin_pb2.BackupRequest, context: grpc.ServicerContext
    ) -> admin_pb2.BackupManifest:
        destination = request.destination
        if "://" not in destination and not PurePath(destination).is_absolute():
            raise InvalidArgument(
                f"destination {destination!r} is relative to nothing here: give an absolute path or a URL"
            )
        return admin_pb2.BackupManifest(manifest_json=json_of(self.platform.backup(destination)))

    @unary
    def GetStatus(
        self, request: admin_pb2.GetStatusRequest, context: grpc.ServicerContext
    ) -> admin_pb2.PlatformStatus:
        return platform_status_to_message(self.platform.status())

    @unary
    def TakeSnapshots(
        self, request: admin_pb2.TakeSnapshotsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.TakeSnapshotsResponse:
        return admin_pb2.TakeSnapshotsResponse(
            snapshots=[
                admin_pb2.SnapshotInfo(
                    generation=one.generation,
                    shard=one.shard,
                    watermark=one.watermark,
                    path=one.path,
                    bytes=one.bytes,
                )
                for one in self.platform.snapshot()
            ]
        )

    @unary
    def Verify(
        self, request: admin_pb2.VerifyRequest, context: grpc.ServicerContext
    ) -> admin_pb2.VerifyResponse:
        report = self.platform.verify(request.sample)
        return admin_pb2.VerifyResponse(problems=report["problems"], report_json=json.dumps(report))

    def Compact(
        self, request: admin_pb2.ShardRequest, context: grpc.ServicerContext
    ) -> admin_pb2.UpkeepReport:
        later(context, "Compact")

    def Rebuild(
        self, request: admin_pb2.ShardRequest, context: grpc.ServicerContext
    ) -> admin_pb2.UpkeepReport:
        later(context, "Rebuild")

    def SplitShard(
        self, request: admin_pb2.ShardRequest, context: grpc.ServicerContext
    ) -> admin_pb2.UpkeepReport:
        later(context, "SplitShard")

    def ListAlerts(
        self, request: admin_pb2.ListAlertsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListAlertsResponse:
        later(context, "ListAlerts")

    def AcknowledgeAlert(
        self, request: admin_pb2.AlertRequest, context: grpc.ServicerContext
    ) -> admin_pb2.Alert:
        later(context, "AcknowledgeAlert")

    def SilenceAlert(self, request: admin_pb2.AlertRequest, context: grpc.ServicerContext) -> admin_pb2.Alert:
        later(context, "SilenceAlert")
