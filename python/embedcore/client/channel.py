"""Where and how a client connects: addresses, credentials, channel options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from embedcore.addresses import is_loopback, join_address, split_address, stream_address_of
from embedcore.client.methods import service_config
from embedcore.errors import InvalidArgument

MAX_MESSAGE_BYTES = 64 << 20
DEFAULT_TIMEOUT = 30.0
# Evaluations and pre-flights encode thousands of texts.
DEFAULT_LONG_TIMEOUT = 3_600.0

OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.service_config", service_config()),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A restarted server is found again within a second; gRPC's default backs off up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Two clients of one process share no connection, so closing one never disturbs the other.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Target:
    """Both addresses of a server and what to present there."""

    address: str
    stream_address: str
    metadata: tuple[tuple[str, str], ...]
    credentials: grpc.ChannelCredentials | None  # None: plain text


def target_of(
    address: str,
    stream_address: str | None,
    token: str | None,
    root_certificates: bytes | str | Path | None,
) -> Target:
    """Checks what can be checked before connecting. ``root_certificates``: PEM bytes, or a file of them."""
    host, port = split_address(address)
    stream = stream_address or stream_address_of(address)
    stream_host, stream_port = split_address(stream)
    if root_certificates is None:
        credentials = None
        if token is not None and not (is_loopback(host) and is_loopback(stream_host)):
            raise InvalidArgument(
                f"a token would travel to {host} in clear text: give root_certificates, so that TLS is used"
            )
    else:
        credentials = grpc.ssl_channel_credentials(_pem(root_certificates))
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    return Target(join_address(host, port), join_address(stream_host, stream_port), metadata, credentials)


def _pem(root_certificates: bytes | str | Path) -> bytes:
    if isinstance(root_certificates, bytes):
        return root_certificates
    try:
        return Path(root_certificates).read_bytes()
    except OSError as error:
        raise InvalidArgument(
            f"root certificates {root_certificates}: {error.strerror}; give a PEM file"
        ) from error
