"""The blocking transport: two channels, one place where calls are made and failures are translated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from embedcore.client.channel import DEFAULT_LONG_TIMEOUT, DEFAULT_TIMEOUT, OPTIONS, Target, target_of
from embedcore.client.failures import error_from_rpc
from embedcore.client.methods import Call, Method, serialized
from embedcore.errors import EmbedcoreError, Unavailable

Result = TypeVar("Result")
HEALTH = "/grpc.health.v1.Health/Check"


class Transport:
    """Connects when first used. Safe to call from any thread; close it, or use it as a context manager.

    ``timeout``: seconds for a data call that names no deadline of its own; ``long_timeout``: for calls that
    compute gates or move data. ``wait_for_ready``: a call waits for a server that is not there (yet, or
    during a restart) until its deadline, instead of failing at once with Unavailable.
    """

    def __init__(
        self,
        address: str,
        *,
        stream_address: str | None = None,
        token: str | None = None,
        root_certificates: bytes | str | Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        long_timeout: float = DEFAULT_LONG_TIMEOUT,
        wait_for_ready: bool = False,
    ) -> None:
        self._target = target_of(address, stream_address, token, root_certificates)
        self._timeout = timeout
        self._long_timeout = long_timeout
        self._wait_for_ready = wait_for_ready
        self._data = _channel(self._target, self._target.address)
        self._long = _channel(self._target, self._target.stream_address)
        self._callables: dict[str, Callable[..., Any]] = {}
        self._closed = threading.Event()

    @property
    def address(self) -> str:
        return self._target.address

    @property
    def stream_address(self) -> str:
        return self._target.stream_address

    def close(self) -> None:
        """Calls in flight end with Cancelled; later ones are refused. Calling it again does nothing."""
        self._closed.set()
        self._data.close()
        self._long.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_until_ready(self, timeout: float) -> None:
        """Returns when both ports answer; Unavailable when they do not within ``timeout`` seconds."""
        for channel, address in ((self._data, self.address), (self._long, self.stream_address)):
            try:
                grpc.channel_ready_future(channel).result(timeout=timeout)
            except grpc.FutureTimeoutError:
                raise Unavailable(f"no server at {address} within {timeout:g} s; start one there") from None

    def serving(self, service: str = "") -> bool:
        """What grpc.health.v1 says of a service (``embedcore.v1.SearchService``), or of the whole server."""
        request = health_pb2.HealthCheckRequest(service=service)
        method = self._callable_of(HEALTH, health_pb2.HealthCheckResponse, self._data.unary_unary)
        answer = self._invoke(method, request, self._timeout, self.address)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def run(self, call: Call[Result]) -> Result:
        """Makes a unary call and reads its answer."""
        method = call.method
        channel = self._long if method.long else self._data
        made = self._callables.get(method.path) or self._callable_of(
            method.path, method.response, channel.unary_unary
        )
        timeout = call.timeout
        if timeout is None:
            timeout = self._long_timeout if method.long else self._timeout
        address = self._target.stream_address if method.long else self._target.address
        return call.parse(self._invoke(made, call.request, timeout, address))

    def watch(self, method: Method, request: Message, parse: Callable[[Any], Result]) -> Iterator[Result]:
        """One request, a stream of answers, until the server ends it or the iterator is closed."""
        made = self._callable_of(method.path, method.response, self._long.unary_stream)
        yield from self._answers(made, request, parse)

    def exchange(
        self, method: Method, requests: Iterable[Message], parse: Callable[[Any], Result]
    ) -> Iterator[Result]:
        """A stream of requests, a stream of answers. An exception of ``requests`` is raised here."""
        made = self._callable_of(method.path, method.response, self._long.stream_stream)
        sent = Outgoing(requests)
        try:
            yield from self._answers(made, sent, parse)
        except EmbedcoreError:
            if sent.error is not None:
                raise sent.error from None
            raise
        if sent.error is not None:
            raise sent.error

    def _answers(
        self, made: Callable[..., Any], request: Any, parse: Callable[[Any], Result]
    ) -> Iterator[Result]:
        stream = self._invoke(made, request, None, self.stream_address)
        try:
            for message in stream:
                yield parse(message)
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.stream_address) from error
        finally:
            stream.cancel()

    def _invoke(self, made: Callable[..., Any], request: Any, timeout: float | None, address: str) -> Any:
        try:
            return made(
                request,
                timeout=timeout,
                metadata=self._target.metadata,
                wait_for_ready=self._wait_for_ready,
            )
        except grpc.RpcError as error:
            raise error_from_rpc(error, address) from error
        except ValueError as error:  # gRPC's way to say that the channel is closed
            if self._closed.is_set():
                raise Unavailable(f"this client of {address} is closed; open another") from error
            raise

    def _callable_of(
        self, path: str, response: type[Message], make: Callable[..., Callable[..., Any]]
    ) -> Callable[..., Any]:
        made = self._callables.get(path)
        if made is None:
            made = make(path, request_serializer=serialized, response_deserializer=response.FromString)
            self._callables[path] = made
        return made


class Outgoing:
    """Requests on their way. gRPC reads them in a thread of its own and only logs what they raise."""

    def __init__(self, requests: Iterable[Message]) -> None:
        self._requests = iter(requests)
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        try:
            return next(self._requests)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise StopIteration from None


def _channel(target: Target, address: str) -> grpc.Channel:
    if target.credentials is None:
        return grpc.insecure_channel(address, options=OPTIONS)
    return grpc.secure_channel(address, target.credentials, options=OPTIONS)
