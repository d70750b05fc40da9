"""The one place where an exception becomes a gRPC status with details.

An :class:`EmbedcoreError` keeps its status, message and code; google.rpc.ErrorInfo carries the code as its
reason and the evidence as JSON in ``metadata["details"]``. Anything else is INTERNAL with a short id, by
which the log, and only the log, says what happened.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any, NoReturn
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from embedcore.errors import EmbedcoreError
from embedcore.wire_documents import json_of

log = logging.getLogger("embedcore.server")

DOMAIN = "embedcore"
MAX_DETAILS_BYTES = 6_000
MAX_MESSAGE_BYTES = 1_200  # percent-encoded, as gRPC sends it
# gRPC peers accept 8,192 bytes of metadata. The message travels twice, percent-encoded and in the status;
# the status may travel as base64. The rest of the allowance is for other headers.
_METADATA_BYTES = 7_900


class Failures:
    """Ends calls with the right status. ``incident``: makes the short ids of unexpected failures."""

    def __init__(self, incident: Callable[[], str] = lambda: secrets.token_hex(4)) -> None:
        self._incident = incident

    def abort(self, context: grpc.ServicerContext, error: Exception) -> NoReturn:
        """Ends the call; never returns. Unexpected exceptions are logged with their traceback."""
        if isinstance(error, EmbedcoreError):
            status = status_of(error)
        else:
            incident = self._incident()
            log.error("internal error %s", incident, exc_info=error)
            status = _status(
                "INTERNAL", "internal", f"internal error {incident}: the server's log says more under it", {}
            )
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort_with_status returned")


def status_of(error: EmbedcoreError) -> status_pb2.Status:
    return _status(error.grpc_status, error.code, error.message, error.details)


def _status(name: str, code: str, message: str, details: dict[str, Any]) -> status_pb2.Status:
    message = message.replace("\n", " ")[:MAX_MESSAGE_BYTES]
    while (size := len(quote(message, safe=" "))) > MAX_MESSAGE_BYTES:
        message = message[: len(message) * MAX_MESSAGE_BYTES // size - 3] + "…"
    info = error_details_pb2.ErrorInfo(reason=code, domain=DOMAIN)
    status = status_pb2.Status(code=grpc.StatusCode[name].value[0], message=message)
    if details:
        taken = size + (len(message.encode()) + 200) * 4 // 3
        room = min(MAX_DETAILS_BYTES, (_METADATA_BYTES - taken) * 3 // 4)
        info.metadata["details"] = json_within(details, room)
    packed = AnyMessage()
    packed.Pack(info)
    status.details.append(packed)
    return status


def json_within(details: dict[str, Any], limit: int) -> str:
    """JSON of the details in at most ``limit`` bytes. What is too much goes from the inside out, so that
    the verdict of every gate is kept before the numbers of any; ``"truncated": true`` says that it went."""
    text = json_of(details)
    if len(text.encode()) <= limit:
        return text
    for depth, width, characters in _SHORTER:
        shorter = _shortened(details, depth, width, characters)
        text = json_of({**shorter, "truncated": True})
        if len(text.encode()) <= limit:
            return text
    return '{"truncated":true}'


# (depth of nesting, entries of a list or object, characters of a text) that are kept, ever fewer.
_WIDTHS = ((64, 1_000), (32, 300), (16, 200), (8, 120), (4, 80), (2, 40), (1, 20))
_SHORTER = [(depth, width, characters) for width, characters in _WIDTHS for depth in (6, 5, 4, 3, 1)]


def _shortened(value: Any, depth: int, width: int, characters: int) -> Any:
    if isinstance(value, str) and len(value) > characters:
        return value[:characters] + "…"
    if isinstance(value, dict):
        if depth == 0:
            return "…"
        kept = list(value.items())[:width]
        return {str(name): _shortened(inner, depth - 1, width, characters) for name, inner in kept}
    if isinstance(value, list | tuple):
        if depth == 0:
            return "…"
        return [_shortened(inner, depth - 1, width, characters) for inner in value[:width]]
    return value
