"""MigrationService: control of migrations. Who asks is required, since it is recorded."""
# ruff: noqa: N802 - gRPC names its methods so

from __future__ import annotations

from collections.abc import Iterator

import grpc

from embedcore.errors import InvalidArgument
from embedcore.migration_types import MigrationEvent, MigrationStatus, Plan
from embedcore.server.handlers import Service, stream, unary
from embedcore.v1 import migration_pb2, migration_pb2_grpc
from embedcore.wire_documents import document_from_json, migration_status_to_message


def _who(who: str) -> str:
    if not who.strip():
        raise InvalidArgument("who is empty: name the person or program that asks, it is recorded")
    return who


def _no_override(request: migration_pb2.ControlRequest, what: str) -> migration_pb2.ControlRequest:
    if request.override_reason:
        raise InvalidArgument(f"{what} passes no gate: leave override_reason out, say it in why")
    return request


class MigrationService(Service, migration_pb2_grpc.MigrationServiceServicer):
    @unary
    def StartMigration(
        self, request: migration_pb2.StartMigrationRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        if not request.target_model:
            raise InvalidArgument("no target model named: name one, as ListModels shows them")
        plan = document_from_json(Plan, request.plan_json, "plan_json") if request.plan_json else None
        return migration_status_to_message(
            self.platform.start_migration(
                request.target_model,
                plan,
                who=_who(request.who),
                why=request.why,
                override=request.override_reason,
            )
        )

    @unary
    def GetMigration(
        self, request: migration_pb2.GetMigrationRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        status = self.platform.migration(request.id)
        return migration_status_to_message(status, self._events(request, status))

    @unary
    def ListMigrations(
        self, request: migration_pb2.ListMigrationsRequest, context: grpc.ServicerContext
    ) -> migration_pb2.ListMigrationsResponse:
        return migration_pb2.ListMigrationsResponse(
            migrations=[migration_status_to_message(status) for status in self.platform.migrations()]
        )

    @stream
    def WatchMigration(
        self, request: migration_pb2.GetMigrationRequest, context: grpc.ServicerContext
    ) -> Iterator[migration_pb2.MigrationStatus]:
        for status in self.platform.watch_migration(request.id):
            events = self._events(request, status)
            if events:
                request.events_after = events[-1].number
            yield migration_status_to_message(status, events)

    @unary
    def SetWeight(
        self, request: migration_pb2.SetWeightRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        if not 0.0 <= request.weight <= 1.0:  # also refuses NaN
            raise InvalidArgument(f"weight is {request.weight}: give 0 (source alone) to 1 (target alone)")
        return migration_status_to_message(
            self.platform.set_weight(
                request.id,
                request.consumer,
                request.weight,
                who=_who(request.who),
                why=request.why,
                override=request.override_reason,
            )
        )

    @unary
    def RevertConsumer(
        self, request: migration_pb2.RevertConsumerRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        return migration_status_to_message(
            self.platform.revert_consumer(
                request.id, request.consumer, who=_who(request.who), why=request.why
            )
        )

    @unary
    def ExtendWindow(
        self, request: migration_pb2.ExtendWindowRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        return migration_status_to_message(
            self.platform.extend_window(request.id, request.seconds, who=_who(request.who), why=request.why)
        )

    @unary
    def PauseMigration(
        self, request: migration_pb2.ControlRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        _no_override(request, "a pause")
        return migration_status_to_message(
            self.platform.pause_migration(request.id, who=_who(request.who), why=request.why)
        )

    @unary
    def ResumeMigration(
        self, request: migration_pb2.ControlRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        _no_override(request, "a resumption")
        return migration_status_to_message(
            self.platform.resume_migration(request.id, who=_who(request.who), why=request.why)
        )

    @unary
    def Cutover(
        self, request: migration_pb2.ControlRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        return migration_status_to_message(
            self.platform.cutover(
                request.id, who=_who(request.who), why=request.why, override=request.override_reason
            )
        )

    @unary
    def Rollback(
        self, request: migration_pb2.ControlRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        _no_override(request, "a rollback")
        return migration_status_to_message(
            self.platform.rollback(request.id, who=_who(request.who), why=request.why)
        )

    @unary
    def AbortMigration(
        self, request: migration_pb2.ControlRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        _no_override(request, "an abort")
        return migration_status_to_message(
            self.platform.abort_migration(request.id, who=_who(request.who), why=request.why)
        )

    @unary
    def Decommission(
        self, request: migration_pb2.ControlRequest, context: grpc.ServicerContext
    ) -> migration_pb2.MigrationStatus:
        return migration_status_to_message(
            self.platform.decommission(
                request.id, who=_who(request.who), why=request.why, override=request.override_reason
            )
        )

    def _events(
        self, request: migration_pb2.GetMigrationRequest, status: MigrationStatus
    ) -> list[MigrationEvent]:
        if not request.HasField("events_after"):
            return []
        return self.platform.migration_events(status.migration.id, request.events_after)
