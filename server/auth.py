"""The bearer token: an interceptor, installed only when a token is configured (it costs each call)."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import grpc

from embedcore.errors import Unauthenticated
from embedcore.server.errors import Failures

_HINT = "send the metadata `authorization: Bearer <token>`, with the token of the server's token file"


class TokenInterceptor(grpc.ServerInterceptor):
    """Lets calls with the right token through, health and reflection included. Compares in constant time."""

    def __init__(self, token: bytes, failures: Failures) -> None:
        self._expected = b"Bearer " + token
        self._missing = _refusing(Unauthenticated(f"this call carries no token: {_HINT}"), failures)
        self._wrong = _refusing(Unauthenticated(f"this call carries a wrong token: {_HINT}"), failures)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        for name, value in handler_call_details.invocation_metadata:
            if name == "authorization":
                given = value.encode() if isinstance(value, str) else value
                right = hmac.compare_digest(given, self._expected)
                return continuation(handler_call_details) if right else self._wrong
        return self._missing


def _refusing(error: Unauthenticated, failures: Failures) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that reads nothing and refuses, whatever the kind of the method."""

    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        failures.abort(context, error)

    return grpc.unary_unary_rpc_method_handler(refuse)
