"""What every handler shares: the translation of failures, the slots of streams, the time a call has left."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import grpc

from embedcore.api import PlatformApi
from embedcore.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from embedcore.server.errors import Failures

Request = TypeVar("Request")
Response = TypeVar("Response")

# Beyond this gRPC means that the caller set no deadline.
_NO_DEADLINE_S = 30 * 365 * 86_400.0


class StreamSlots:
    """Which streams may be open on this server. Safe to call from any thread.

    ``count`` None: streams are served elsewhere, at the address ``elsewhere``.
    """

    def __init__(self, count: int | None, elsewhere: str, draining: threading.Event) -> None:
        self.count = count
        self.elsewhere = elsewhere
        self.draining = draining
        self._free = threading.Semaphore(count or 0)

    def take(self) -> None:
        if not self._free.acquire(blocking=False):
            raise ResourceExhausted(
                f"all {self.count} stream slots are taken: close a stream, or raise stream_slots",
                {"stream_slots": self.count},
            )

    def give_back(self) -> None:
        self._free.release()

    def refuse_when_draining(self) -> None:
        if self.draining.is_set():
            raise Unavailable("the server is shutting down: connect again")


class Service:
    """Base of the services on one port. They hold no state of their own."""

    def __init__(self, platform: PlatformApi, failures: Failures, slots: StreamSlots) -> None:
        self.platform = platform
        self.failures = failures
        self.slots = slots


AnyService = TypeVar("AnyService", bound=Service)


def unary(
    handler: Callable[[AnyService, Request, grpc.ServicerContext], Response],
) -> Callable[[AnyService, Request, grpc.ServicerContext], Response]:
    """A decorator, since an interceptor would cost every call some 15 microseconds."""

    @functools.wraps(handler)
    def call(self: AnyService, request: Request, context: grpc.ServicerContext) -> Response:
        try:
            return handler(self, request, context)
        except Exception as error:
            self.failures.abort(context, error)

    return call


def stream(
    handler: Callable[[AnyService, Any, grpc.ServicerContext], Iterator[Response]],
) -> Callable[[AnyService, Any, grpc.ServicerContext], Iterator[Response]]:
    """``handler``: a generator. It holds a slot while it runs, and ends when the server drains."""

    @functools.wraps(handler)
    def call(self: AnyService, request: Any, context: grpc.ServicerContext) -> Iterator[Response]:
        slots = self.slots
        if slots.count is None:
            # Not an EmbedcoreError: no caller of ours gets here, and UNIMPLEMENTED is the status for it.
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"{handler.__name__} is a stream, which this port does not serve: call {slots.elsewhere}",
            )
        try:
            slots.take()
        except ResourceExhausted as error:
            self.failures.abort(context, error)
        try:
            for response in handler(self, request, context):
                yield response
                slots.refuse_when_draining()
        except grpc.RpcError:
            return  # the caller has gone: nobody is left to be told
        except Exception as error:
            self.failures.abort(context, error)
        finally:
            slots.give_back()

    return call


def seconds_left(context: grpc.ServicerContext) -> float | None:
    """Until the call's deadline; None without one. DeadlineExceeded when it passed while waiting."""
    left: float | None = context.time_remaining()
    if left is None or left > _NO_DEADLINE_S:
        return None
    if left <= 0:
        raise DeadlineExceeded("the deadline passed before the call was taken up: allow more, or send less")
    return left


def later(context: grpc.ServicerContext, what: str) -> NoReturn:
    """Ends the call of a method that exists in the protos alone."""
    context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{what} comes with a later version")
    raise AssertionError("abort returned")
