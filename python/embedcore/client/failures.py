"""A failed call becomes the exception that the server raised: the other end of server/errors.py."""

from __future__ import annotations

import json
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from embedcore.errors import ERRORS, EmbedcoreError, error_of

DETAILS_KEY = "grpc-status-details-bin"  # of google.rpc.Status, as every gRPC library names it
DOMAIN = "embedcore"

# For failures that carry no code of ours: made by gRPC itself, or by a proxy. First row of a status wins.
_CODES: dict[str, str] = {
    error.grpc_status: code for code, error in reversed(ERRORS.items()) if error.grpc_status != "INTERNAL"
} | {"UNIMPLEMENTED": "failed_precondition", "OUT_OF_RANGE": "invalid_argument", "ABORTED": "unavailable"}


def error_from_rpc(error: grpc.RpcError, address: str) -> EmbedcoreError:
    """``error``: of a blocking or asynchronous call. ``address``: named when no server answered."""
    status = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else grpc.StatusCode.UNKNOWN
    message = getattr(error, "details", str)() or status.name
    info = _info(error)
    if info is not None:
        return error_of(info.reason, message, _details(info.metadata.get("details", "")))
    if status is grpc.StatusCode.UNAVAILABLE:
        message = f"no answer from {address}: {message}; is a server running there?"
    elif status is grpc.StatusCode.RESOURCE_EXHAUSTED:
        message = f"{address}: {message}; try again later, or with less at once"
    return error_of(_CODES.get(status.name, "internal"), message, {"grpc_status": status.name})


def _info(error: Any) -> error_details_pb2.ErrorInfo | None:
    metadata = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    for key, value in metadata or ():
        if key == DETAILS_KEY:
            info = error_details_pb2.ErrorInfo()
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == DOMAIN:
                    return info
    return None


def _details(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
