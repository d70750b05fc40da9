"""Network addresses ``host:port``, as the server binds them and the clients dial them."""

from __future__ import annotations

import ipaddress
import socket

from embedcore.errors import InvalidArgument

DEFAULT_ADDRESS = "127.0.0.1:7600"


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[ipv6]:port``, with or without ``grpc://`` in front, as (host, port)."""
    text = address.removeprefix("grpc://").rstrip("/")
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise InvalidArgument(f"address {address!r} is not host:port: write for example {DEFAULT_ADDRESS}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InvalidArgument(f"address {address!r}: write an IPv6 host in brackets, as in [::1]:7600")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def stream_address_of(address: str) -> str:
    """Where streams are served unless said otherwise: the next port; an open port (0) for an open port."""
    host, port = split_address(address)
    if port == 65_535:
        raise InvalidArgument(f"no port follows {address}: name the address for streams")
    return join_address(host, port + 1 if port else 0)


def is_loopback(host: str) -> bool:
    """Whether every address that the host stands for is reachable from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass  # a name
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM) if host else []
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(entry[4][0]).is_loopback for entry in found)
