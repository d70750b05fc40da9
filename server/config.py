"""Settings of a server, and the rule that keeps an unprotected one on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from embedcore.addresses import DEFAULT_ADDRESS, is_loopback, split_address, stream_address_of
from embedcore.errors import FailedPrecondition, InvalidArgument

MIN_TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Port 0 stands for any free port. Paths are PEM files, and for the token a file that holds it alone."""

    listen: str = DEFAULT_ADDRESS
    stream_listen: str = ""  # empty: the port after listen's
    workers: int = 4  # queries and control calls at work at once; more only queue for the GIL
    bulk_workers: int = 2  # writes, batches and embeddings at work at once, beside them
    max_queued: int = 1_024  # unary calls at work or waiting; beyond it RESOURCE_EXHAUSTED
    stream_slots: int = 16  # open streams
    control_slots: int = 4  # long control calls at work beside the streams
    tls_certificate: str | Path = ""  # with its chain
    tls_key: str | Path = ""
    token_file: str | Path = ""
    drain_seconds: float = 5.0  # for calls in flight when the server stops
    callable_targets: bool = False  # clients may register models by the name of a Python function


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked configuration: what to bind, and with what."""

    listen: str
    stream_listen: str
    credentials: grpc.ServerCredentials | None  # None: plain text
    token: bytes | None


def resolve(config: ServerConfig) -> Endpoint:
    """Checks everything before a port is opened; reads certificate, key and token.

    Raises InvalidArgument for settings that are wrong by themselves, FailedPrecondition for an address
    that other machines reach without both TLS and a token.
    """
    stream_listen = config.stream_listen or stream_address_of(config.listen)
    for name in ("workers", "bulk_workers", "max_queued", "stream_slots", "control_slots"):
        if getattr(config, name) < 1:
            raise InvalidArgument(f"{name} must be at least 1, got {getattr(config, name)}")
    if bool(config.tls_certificate) != bool(config.tls_key):
        raise InvalidArgument("TLS needs a certificate and its key: give both files, or none")
    for address in (config.listen, stream_listen):
        host, _ = split_address(address)
        if not is_loopback(host) and not (config.tls_certificate and config.token_file):
            raise FailedPrecondition(
                f"{address} is reachable from other machines: configure tls_certificate, tls_key and "
                f"token_file, or listen on 127.0.0.1"
            )
    credentials = None
    if config.tls_certificate:
        certificate = _read(config.tls_certificate, "TLS certificate")
        key = _read(config.tls_key, "TLS key")
        credentials = grpc.ssl_server_credentials([(key, certificate)])
    token = None
    if config.token_file:
        token = _read(config.token_file, "token file").strip()
        if len(token) < MIN_TOKEN_BYTES or not token.isascii() or b"\n" in token:
            raise InvalidArgument(
                f"token file {config.token_file}: put one line of at least {MIN_TOKEN_BYTES} ASCII "
                f"characters in it, as from `openssl rand -hex 32`"
            )
    return Endpoint(config.listen, stream_listen, credentials, token)


def _read(path: str | Path, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{what} {path}: {error.strerror}; give a file that can be read") from error
