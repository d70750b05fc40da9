"""The asynchronous client, on grpc.aio: the same names, arguments, answers and errors as the blocking one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from embedcore.client import calls, methods
from embedcore.client.asynchronous_control import AsyncControl
from embedcore.client.channel import DEFAULT_LONG_TIMEOUT, DEFAULT_TIMEOUT, OPTIONS, Target, target_of
from embedcore.client.failures import error_from_rpc
from embedcore.client.methods import Call, Method, serialized
from embedcore.client.transport import HEALTH
from embedcore.errors import Unavailable
from embedcore.types import (
    Attributes,
    Fingerprint,
    Item,
    SearchAnswer,
    SearchRequest,
    SequenceToken,
    StoredItem,
    Vector,
    Vectors,
    WriteReceipt,
)
from embedcore.wire import answer_from_message, receipt_from_message, search_request_to_message

Result = TypeVar("Result")
Given = TypeVar("Given")


class AsyncClient(AsyncControl):
    """A typed client for one event loop; use it with ``async with``, or close it.

    Arguments: see :class:`embedcore.client.transport.Transport`. Not for use from several loops or threads.
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

    @property
    def address(self) -> str:
        return self._target.address

    @property
    def stream_address(self) -> str:
        return self._target.stream_address

    async def close(self) -> None:
        await self._data.close()
        await self._long.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def wait_until_ready(self, timeout: float) -> None:
        """Returns when both ports answer; Unavailable when they do not within ``timeout`` seconds."""
        for channel, address in ((self._data, self.address), (self._long, self.stream_address)):
            try:
                await asyncio.wait_for(channel.channel_ready(), timeout)
            except TimeoutError:
                raise Unavailable(f"no server at {address} within {timeout:g} s; start one there") from None

    async def serving(self, service: str = "") -> bool:
        """What grpc.health.v1 says of a service (``embedcore.v1.SearchService``), or of the whole server."""
        made = self._callable_of(HEALTH, health_pb2.HealthCheckResponse, self._data.unary_unary)
        request = health_pb2.HealthCheckRequest(service=service)
        answer = await self._await(made, request, self._timeout, self.address)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    # Data.

    async def search(
        self,
        consumer: str,
        text: str | None = None,
        *,
        vectors: Mapping[str, Vector] | None = None,
        k: int | None = None,
        namespace: str = "",
        filter: Attributes | None = None,  # noqa: A002 - the name in API.md
        min_sequence: SequenceToken | None = None,
        user_key: str = "",
        timeout: float | None = None,
    ) -> SearchAnswer:
        """See :meth:`embedcore.client.Client.search`."""
        request = calls.query(
            consumer,
            text,
            vectors=vectors,
            k=k,
            namespace=namespace,
            filter=filter,
            min_sequence=min_sequence,
            user_key=user_key,
            timeout=timeout,
        )
        return await self.run(calls.search(request))

    async def search_batch(
        self, requests: Sequence[SearchRequest], *, timeout: float | None = None
    ) -> list[SearchAnswer]:
        return await self.run(calls.search_batch(requests, timeout))

    def search_stream(
        self, requests: Iterable[SearchRequest] | AsyncIterable[SearchRequest]
    ) -> AsyncIterator[SearchAnswer]:
        """One answer per request, in order, over one stream; a failed request ends it with its error."""
        convert = calls.refusing(search_request_to_message)
        return self.exchange(methods.SEARCH_STREAM, requests, convert, answer_from_message)

    async def upsert(self, items: Sequence[Item], *, timeout: float | None = None) -> WriteReceipt:
        return await self.run(calls.upsert(items, timeout))

    async def delete(
        self, ids: Sequence[str], namespace: str = "", *, timeout: float | None = None
    ) -> WriteReceipt:
        return await self.run(calls.delete(ids, namespace, timeout))

    async def get_item(self, item_id: str, namespace: str = "") -> StoredItem:
        return await self.run(calls.get_item(item_id, namespace))

    def ingest(
        self, batches: Iterable[Sequence[Item]] | AsyncIterable[Sequence[Item]]
    ) -> AsyncIterator[WriteReceipt]:
        """See :meth:`embedcore.client.Client.ingest`."""
        return self.exchange(methods.INGEST_STREAM, batches, calls.batch_message, receipt_from_message)

    async def embed(
        self, model: str, texts: Sequence[str], *, timeout: float | None = None
    ) -> tuple[Fingerprint, Vectors]:
        return await self.run(calls.embed(model, texts, timeout))

    # Transport.

    async def run(self, call: Call[Result]) -> Result:
        method = call.method
        channel = self._long if method.long else self._data
        made = self._callable_of(method.path, method.response, channel.unary_unary)
        timeout = call.timeout
        if timeout is None:
            timeout = self._long_timeout if method.long else self._timeout
        address = self.stream_address if method.long else self.address
        return call.parse(await self._await(made, call.request, timeout, address))

    async def watch(
        self, method: Method, request: Message, parse: Callable[[Any], Result]
    ) -> AsyncIterator[Result]:
        made = self._callable_of(method.path, method.response, self._long.unary_stream)
        async for answer in self._answers(made, request, parse):
            yield answer

    async def exchange(
        self,
        method: Method,
        requests: Iterable[Given] | AsyncIterable[Given],
        convert: Callable[[Given], Message],
        parse: Callable[[Any], Result],
    ) -> AsyncIterator[Result]:
        """An exception of ``requests`` is raised here; gRPC by itself would only log it."""
        failed: list[BaseException] = []

        async def outgoing() -> AsyncIterator[Message]:
            try:
                if isinstance(requests, AsyncIterable):
                    async for request in requests:
                        yield convert(request)
                else:
                    for request in requests:
                        yield convert(request)
            except Exception as error:
                failed.append(error)

        made = self._callable_of(method.path, method.response, self._long.stream_stream)
        async for answer in self._answers(made, outgoing(), parse):
            yield answer
        if failed:
            raise failed[0]

    async def _answers(
        self, made: Callable[..., Any], request: Any, parse: Callable[[Any], Result]
    ) -> AsyncIterator[Result]:
        stream = self._invoke(made, request, None)
        try:
            async for message in stream:
                yield parse(message)
        except grpc.RpcError as error:
            raise error_from_rpc(error, self.stream_address) from error
        finally:
            stream.cancel()

    def _invoke(self, made: Callable[..., Any], request: Any, timeout: float | None) -> Any:
        return made(
            request, timeout=timeout, metadata=self._target.metadata, wait_for_ready=self._wait_for_ready
        )

    async def _await(
        self, made: Callable[..., Any], request: Any, timeout: float | None, address: str
    ) -> Any:
        try:
            return await self._invoke(made, request, timeout)
        except grpc.RpcError as error:
            raise error_from_rpc(error, address) from error
        except grpc.aio.UsageError as error:
            raise Unavailable(f"this client of {address} is closed; open another") from error

    def _callable_of(
        self, path: str, response: type[Message], make: Callable[..., Callable[..., Any]]
    ) -> Callable[..., Any]:
        made = self._callables.get(path)
        if made is None:
            made = make(path, request_serializer=serialized, response_deserializer=response.FromString)
            self._callables[path] = made
        return made


def _channel(target: Target, address: str) -> grpc.aio.Channel:
    if target.credentials is None:
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    return grpc.aio.secure_channel(address, target.credentials, options=OPTIONS)
