"""The server: two ports over one platform, health, reflection, and an orderly end.

Unary calls are served on ``listen``. Streams, which hold a thread for as long as they are open, are served
on ``stream_listen`` by threads of their own; so are control calls that take long, which both ports accept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from embedcore.addresses import join_address, split_address
from embedcore.api import PlatformApi
from embedcore.errors import FailedPrecondition
from embedcore.server.admin import AdminService
from embedcore.server.auth import TokenInterceptor
from embedcore.server.config import Endpoint, ServerConfig, resolve
from embedcore.server.errors import Failures
from embedcore.server.evaluation import EngagementService, EvaluationService
from embedcore.server.handlers import StreamSlots
from embedcore.server.items import EmbedService, ItemService
from embedcore.server.limits import MAX_MESSAGE_BYTES
from embedcore.server.migrations import MigrationService
from embedcore.server.pools import BULK, Pools, run_on
from embedcore.server.search import SearchService
from embedcore.v1 import (
    admin_pb2_grpc,
    embed_pb2_grpc,
    engagement_pb2_grpc,
    evaluation_pb2_grpc,
    items_pb2_grpc,
    migration_pb2_grpc,
    search_pb2_grpc,
)

SERVICES = tuple(
    f"embedcore.v1.{name}"
    for name in (
        "AdminService",
        "EmbedService",
        "EngagementService",
        "EvaluationService",
        "ItemService",
        "MigrationService",
        "SearchService",
    )
)

# They answer UNAVAILABLE while an index is being recovered; the others do their work meanwhile.
NEED_INDEXES = tuple(
    f"embedcore.v1.{name}" for name in ("EvaluationService", "MigrationService", "SearchService")
)
_HEALTH_INTERVAL_S = 0.1  # between two looks at the recovery

_OPTIONS: Sequence[tuple[str, Any]] = (
    # A second server on the same port must fail, not share its calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A client that vanished without a word gives its stream slot back within 40 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)


class Server:
    """Serves a platform until it is stopped. The platform stays the caller's, to be closed after the server.

    Wrong settings are refused when the object is made, a port that is taken when it is started. All methods
    may be called from any thread.
    """

    def __init__(
        self,
        platform: PlatformApi,
        config: ServerConfig | None = None,
        recovering: Callable[[], str] = lambda: "",
    ) -> None:
        """``recovering``: what is still to be recovered, "" when nothing is. Asked some times a second while
        the server runs; until it is empty, and whenever it is not, health is NOT_SERVING for the services
        that need indexes and for the whole.
        """
        self._recovering = recovering
        self._config = config or ServerConfig()
        self._endpoint = resolve(self._config)
        self._platform = platform
        self._failures = Failures()
        self._health = health.HealthServicer()
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self._stopping = threading.Lock()
        long_calls = self._config.stream_slots + self._config.control_slots
        self._pools = Pools(self._config.workers, self._config.bulk_workers, long_calls)
        self._data = self._server(self._pools.queries, self._config.max_queued)
        # As many threads as calls: what cannot start at once is refused, nothing waits behind a stream.
        self._long = self._server(self._pools.long, long_calls)
        self._address = self._stream_address = ""

    @property
    def address(self) -> str:
        """Where unary calls are served, with the actual port; empty before :meth:`start`."""
        return self._address

    @property
    def stream_address(self) -> str:
        return self._stream_address

    def start(self) -> Self:
        """Binds both ports and serves. FailedPrecondition when one of them cannot be had, or the server
        was stopped. Starting what runs does nothing."""
        if self._stopped.is_set():
            raise FailedPrecondition("this server was stopped: make another")
        if self._address:
            return self
        try:
            address = _bind(self._data, self._endpoint.listen, self._endpoint)
            self._stream_address = _bind(self._long, self._endpoint.stream_listen, self._endpoint)
        except FailedPrecondition:
            self._data.start()  # gRPC frees the port it has bound only by stopping a server that runs
            self.stop(0.0)
            raise
        for name in SERVICES:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._set_health(not self._recovering())
        threading.Thread(target=self._watch_health, name="health", daemon=True).start()
        elsewhere = self._stream_address
        self._register(self._data, StreamSlots(None, elsewhere, self._draining), bulk=True)
        slots = StreamSlots(self._config.stream_slots, elsewhere, self._draining)
        self._register(self._long, slots, bulk=False)
        self._data.start()
        self._long.start()
        self._address = address
        return self

    def _set_health(self, recovered: bool) -> None:
        answer = health_pb2.HealthCheckResponse
        for name in ("", *NEED_INDEXES):
            self._health.set(name, answer.SERVING if recovered else answer.NOT_SERVING)

    def _watch_health(self) -> None:
        while not self._draining.wait(_HEALTH_INTERVAL_S):
            self._set_health(not self._recovering())

    def begin_drain(self) -> None:
        """Health turns NOT_SERVING for good, so that no new callers come; calls are still answered."""
        self._health.enter_graceful_shutdown()

    def stop(self, grace: float | None = None) -> bool:
        """Drains and stops: health first, then no new calls, then up to ``grace`` seconds (default: the
        configuration's drain_seconds) for those in flight. Streams end at their next message.

        Returns whether every handler has returned, so that the platform can be closed under none of them.
        Calling it again waits for the first call.
        """
        seconds = self._config.drain_seconds if grace is None else grace
        with self._stopping:
            if not self._stopped.is_set():
                self.begin_drain()
                self._draining.set()
                ended = [self._data.stop(seconds), self._long.stop(seconds)]
                for event in ended:
                    event.wait()
                self._stopped.set()
            return self._pools.shutdown(max(seconds, 1.0))

    def wait(self, timeout: float | None = None) -> bool:
        """Until the server has been stopped; False when ``timeout`` seconds passed first."""
        return self._stopped.wait(timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _server(self, pool: Any, concurrent: int) -> grpc.Server:
        token = self._endpoint.token
        return grpc.server(
            pool,
            options=_OPTIONS,
            maximum_concurrent_rpcs=concurrent,
            interceptors=None if token is None else [TokenInterceptor(token, self._failures)],
        )

    def _register(self, server: grpc.Server, slots: StreamSlots, bulk: bool) -> None:
        shared = (self._platform, self._failures, slots)
        search, items, embed = SearchService(*shared), ItemService(*shared), EmbedService(*shared)
        for service in (search, items, embed) if bulk else ():
            for method in BULK:
                if hasattr(service, method):
                    run_on(self._pools.bulk, service, method)
        admin = AdminService(*shared, callable_targets=self._config.callable_targets)
        search_pb2_grpc.add_SearchServiceServicer_to_server(search, server)
        items_pb2_grpc.add_ItemServiceServicer_to_server(items, server)
        embed_pb2_grpc.add_EmbedServiceServicer_to_server(embed, server)
        migration_pb2_grpc.add_MigrationServiceServicer_to_server(MigrationService(*shared), server)
        evaluation_pb2_grpc.add_EvaluationServiceServicer_to_server(EvaluationService(*shared), server)
        engagement_pb2_grpc.add_EngagementServiceServicer_to_server(EngagementService(*shared), server)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        described = reflection.ReflectionServicer((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME))
        run_on(self._pools.reflection, described, "ServerReflectionInfo")
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(described, server)


def _bind(server: grpc.Server, address: str, endpoint: Endpoint) -> str:
    host, _ = split_address(address)
    try:
        if endpoint.credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, endpoint.credentials)
    except RuntimeError as error:
        raise FailedPrecondition(
            f"cannot listen on {address}: it is taken, or not an address of this machine; "
            f"stop what listens there, or choose another"
        ) from error
    return join_address(host, port)
