"""The errors of embedcore: one table from code to Python exception to gRPC status.

Every refusal in the product has one of these codes. The native core returns them as values
(``cpp/common/status.h``), Python raises the exception of the same row, and the server answers with the
gRPC status of the same row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final


class EmbedcoreError(Exception):
    """Base of all errors raised on purpose. The message is one line: what came and what to do.

    ``details`` is JSON-serialisable evidence, e.g. the intervals that made a gate refuse.
    """

    code: ClassVar[str] = "internal"
    grpc_status: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})

    def __str__(self) -> str:  # KeyError would print the repr
        return self.message


class InvalidArgument(EmbedcoreError, ValueError):
    """The input is wrong whatever the state: shape, NaN, k < 1, wrong fingerprint."""

    code = "invalid_argument"
    grpc_status = "INVALID_ARGUMENT"


class NotFound(EmbedcoreError, KeyError):
    """A named item, consumer, model, generation or migration does not exist."""

    code = "not_found"
    grpc_status = "NOT_FOUND"


class AlreadyExists(EmbedcoreError):
    """The name is taken."""

    code = "already_exists"
    grpc_status = "ALREADY_EXISTS"


class FailedPrecondition(EmbedcoreError):
    """Right input at the wrong time; retrying without a change of state is useless."""

    code = "failed_precondition"
    grpc_status = "FAILED_PRECONDITION"


class GateNotMet(FailedPrecondition):
    """A migration gate refused; ``details["evidence"]`` holds what was measured."""

    code = "gate_not_met"


class ResourceExhausted(EmbedcoreError):
    """A bounded queue, memory or disk is full; retry later."""

    code = "resource_exhausted"
    grpc_status = "RESOURCE_EXHAUSTED"


class WouldBlock(ResourceExhausted):
    """The write ring is full and the caller asked not to wait."""

    code = "would_block"


class Unavailable(EmbedcoreError):
    """Closed, not yet loaded, or unreachable; retry later."""

    code = "unavailable"
    grpc_status = "UNAVAILABLE"


class DeadlineExceeded(EmbedcoreError, TimeoutError):
    """The deadline passed before the work was done."""

    code = "deadline_exceeded"
    grpc_status = "DEADLINE_EXCEEDED"


class Unauthenticated(EmbedcoreError):
    """No token, or a wrong one."""

    code = "unauthenticated"
    grpc_status = "UNAUTHENTICATED"


class PermissionDenied(EmbedcoreError):
    """The token does not allow this call."""

    code = "permission_denied"
    grpc_status = "PERMISSION_DENIED"


class DataLoss(EmbedcoreError):
    """Stored data is damaged: a checksum does not match."""

    code = "data_loss"
    grpc_status = "DATA_LOSS"


class CorruptSnapshotError(DataLoss, ValueError):
    """A snapshot file is damaged, truncated or not a snapshot; nothing was loaded."""

    code = "corrupt_snapshot"


class Cancelled(EmbedcoreError):
    """The caller asked to stop."""

    code = "cancelled"
    grpc_status = "CANCELLED"


class Internal(EmbedcoreError):
    """A broken invariant: a bug in embedcore."""


ERRORS: Final[dict[str, type[EmbedcoreError]]] = {
    error.code: error
    for error in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        GateNotMet,
        ResourceExhausted,
        WouldBlock,
        Unavailable,
        DeadlineExceeded,
        Unauthenticated,
        PermissionDenied,
        DataLoss,
        CorruptSnapshotError,
        Cancelled,
        Internal,
    )
}


def error_of(code: str, message: str, details: Mapping[str, Any] | None = None) -> EmbedcoreError:
    """The exception of a code; an unknown code, e.g. from a newer server, becomes Internal."""
    return ERRORS.get(code, Internal)(message, details)
