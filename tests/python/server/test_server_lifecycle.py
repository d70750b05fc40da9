"""Start and end of a server: ports, health, reflection, draining, what is not there yet."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from embedcore.addresses import split_address
from embedcore.client import Client
from embedcore.errors import Cancelled, DeadlineExceeded, FailedPrecondition, InvalidArgument, Unavailable
from embedcore.server import Server, ServerConfig
from embedcore.server.app import NEED_INDEXES, SERVICES
from embedcore.server.handlers import seconds_left
from embedcore.v1 import admin_pb2, admin_pb2_grpc, jobs_pb2_grpc
from embedcore.v1.jobs_pb2 import GetJobRequest
from support.fake_platform import FakePlatform

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def search_until_refused(client: Client) -> None:
    for _ in range(10_000):
        client.search("search", "x")


def search_once(client: Client) -> None:
    """Whose call is cut off when the server does not wait for it."""
    with contextlib.suppress(Unavailable, Cancelled):
        client.search("search", "x")


def test_health_flips_before_the_drain_and_calls_are_still_answered(
    client: Client, server: Server, platform: FakePlatform
) -> None:
    assert client.serving()
    assert all(client.serving(service) for service in SERVICES)
    with grpc.insecure_channel(server.stream_address) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service=SERVICES[0])
        )
        assert next(watched).status == SERVING
        server.begin_drain()
        assert next(watched).status == NOT_SERVING
        assert not any(client.serving(service) for service in ("", *SERVICES))
        assert client.search("search", "x").hits == ()
        watched.cancel()


def test_health_waits_for_recovery_per_service(platform: FakePlatform) -> None:
    config = ServerConfig(listen="127.0.0.1:0")
    left = ["generation 1, shard 0: replaying 5 of 9 from snapshot 3"]
    with Server(platform, config, recovering=lambda: left[0]) as server, Client(server.address) as client:
        waiting = ("", *NEED_INDEXES)
        assert not any(client.serving(service) for service in waiting)
        assert all(client.serving(service) for service in set(SERVICES) - set(NEED_INDEXES))
        left[0] = ""
        with grpc.insecure_channel(server.address) as channel:
            watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert SERVING in (next(watched).status, next(watched).status)
            assert all(client.serving(service) for service in SERVICES)
            left[0] = "generation 1, shard 0: damaged"  # found while it runs
            assert next(watched).status == NOT_SERVING
            watched.cancel()


def test_stopping_flips_health_first(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == SERVING
        stopper = threading.Thread(target=server.stop, args=(0.5,), daemon=True)
        stopper.start()
        assert next(watched).status == NOT_SERVING
        stopper.join(10)


@pytest.mark.parametrize(("left", "expected"), [(None, None), (1.5, 1.5), (3e9, None)])
def test_what_a_call_has_left(left: float | None, expected: float | None) -> None:
    assert seconds_left(SimpleNamespace(time_remaining=lambda: left)) == expected  # type: ignore[arg-type]


def test_a_call_with_nothing_left_is_not_taken_up() -> None:
    with pytest.raises(DeadlineExceeded, match="allow more, or send less"):
        seconds_left(SimpleNamespace(time_remaining=lambda: 0.0))  # type: ignore[arg-type]


def test_calls_in_flight_are_finished_and_new_ones_are_not_taken(
    server: Server, platform: FakePlatform
) -> None:
    platform.blocking["evaluate"] = threading.Event()
    answers: list[object] = []
    ended: list[bool] = []
    with Client(server.address, stream_address=server.stream_address) as client:
        caller = threading.Thread(target=lambda: answers.append(client.evaluate("search")), daemon=True)
        caller.start()
        assert platform.entered.wait(10)
        stopper = threading.Thread(target=lambda: ended.append(server.stop(10.0)), daemon=True)
        stopper.start()
        with pytest.raises(Unavailable):
            search_until_refused(client)
        assert not server.wait(0.05)
        platform.blocking["evaluate"].set()
        caller.join(10)
        stopper.join(10)
    assert answers == [platform.evaluate("search")]
    assert ended == [True]
    assert server.wait(0)
    assert not platform.closed  # the platform is the caller's


def test_a_handler_that_does_not_return_is_reported(platform: FakePlatform) -> None:
    platform.blocking["search"] = threading.Event()
    server = Server(platform, ServerConfig(listen="127.0.0.1:0")).start()
    client = Client(server.address, stream_address=server.stream_address)
    caller = threading.Thread(target=search_once, args=(client,), daemon=True)
    caller.start()
    assert platform.entered.wait(10)
    assert not server.stop(0.0)
    platform.blocking["search"].set()
    assert server.stop(5.0)  # a second stop waits for what the first left
    caller.join(10)
    client.close()


@pytest.mark.parametrize("port", ["address", "stream_address"])
def test_reflection_lists_the_services_on_both_ports(server: Server, port: str) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(getattr(server, port)) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(iter([request]))
        listed = {service.name for service in answer.list_services_response.service}
        assert listed == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
        for name in SERVICES:
            request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
            (answer,) = stub.ServerReflectionInfo(iter([request]))
            assert answer.file_descriptor_response.file_descriptor_proto


def test_what_comes_later_says_so(server: Server) -> None:
    shard = admin_pb2.ShardRequest(generation=1)
    alert = admin_pb2.AlertRequest(id="a")
    with grpc.insecure_channel(server.address) as channel:
        admin = admin_pb2_grpc.AdminServiceStub(channel)
        for call, request in (
            (admin.Compact, shard),
            (admin.Rebuild, shard),
            (admin.SplitShard, shard),
            (admin.ListAlerts, admin_pb2.ListAlertsRequest()),
            (admin.AcknowledgeAlert, alert),
            (admin.SilenceAlert, alert),
        ):
            with pytest.raises(grpc.RpcError, match="comes with a later version") as caught:
                call(request)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as caught:
            jobs_pb2_grpc.JobServiceStub(channel).GetJob(GetJobRequest(id="a"))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_port_0_takes_free_ports_and_reports_them(server: Server) -> None:
    ports = {split_address(server.address)[1], split_address(server.stream_address)[1]}
    assert len(ports) == 2
    assert 0 not in ports


@pytest.mark.parametrize("taken", ["listen", "stream_listen"])
def test_a_taken_port_is_refused_and_leaves_nothing_bound(
    server: Server, platform: FakePlatform, taken: str
) -> None:
    with Server(platform, ServerConfig(listen="127.0.0.1:0")) as free:
        spare, spare_stream = free.address, free.stream_address
    wanted = {"listen": spare, "stream_listen": spare_stream}
    with pytest.raises(FailedPrecondition, match=rf"cannot listen on {server.address}: it is taken"):
        Server(platform, ServerConfig(**{**wanted, taken: server.address})).start()
    with Server(platform, ServerConfig(**wanted)) as second:
        assert second.address == spare


def test_a_stopped_server_frees_its_ports_and_stopping_again_is_nothing(platform: FakePlatform) -> None:
    with Server(platform, ServerConfig(listen="127.0.0.1:0")) as first:
        config = ServerConfig(listen=first.address, stream_listen=first.stream_address)
    assert first.stop()
    with (
        Server(platform, config) as second,
        Client(second.address, stream_address=second.stream_address) as client,
    ):
        assert client.serving()


def test_a_server_that_never_started_can_be_stopped(platform: FakePlatform) -> None:
    assert Server(platform, ServerConfig(listen="127.0.0.1:0")).stop()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"stream_slots": -1}, "stream_slots must be at least 1"),
        ({"listen": "7600"}, "not host:port"),
        ({"listen": "127.0.0.1:99999"}, "not host:port"),
        ({"listen": "::1:7600"}, "in brackets"),
        ({"listen": "127.0.0.1:65535"}, "no port follows"),
    ],
)
def test_wrong_settings_are_refused(
    platform: FakePlatform, settings: dict[str, object], expected: str
) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        Server(platform, ServerConfig(**settings))  # type: ignore[arg-type]


def test_a_call_that_waited_beyond_its_deadline_is_not_taken_up(platform: FakePlatform) -> None:
    platform.blocking["search"] = threading.Event()
    config = ServerConfig(listen="127.0.0.1:0", workers=1)
    with Server(platform, config) as server, Client(server.address) as client:
        first = threading.Thread(target=client.search, args=("search", "first"), daemon=True)
        first.start()
        assert platform.entered.wait(10)
        with pytest.raises(DeadlineExceeded):
            client.search("search", "second", timeout=0.2)
        platform.blocking["search"].set()
        first.join(10)
        assert client.search("search", "third").hits == ()
    assert [request.text for request in platform.searched] == ["first", "third"]


def test_ipv6_loopback(platform: FakePlatform) -> None:
    try:
        server = Server(platform, ServerConfig(listen="[::1]:0")).start()
    except FailedPrecondition:
        pytest.skip("this machine has no IPv6 loopback")
    with server, Client(server.address, stream_address=server.stream_address) as client:
        assert server.address.startswith("[::1]:")
        assert client.serving()
