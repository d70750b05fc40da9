"""A real server on free ports over the fake platform, and a real client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embedcore.client import Client
from embedcore.server import Server, ServerConfig
from support.fake_platform import FakePlatform

ANY_PORT = ServerConfig(listen="127.0.0.1:0", stream_slots=3, control_slots=2, drain_seconds=2.0)


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform()


@pytest.fixture
def server(platform: FakePlatform) -> Iterator[Server]:
    with Server(platform, ANY_PORT) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, stream_address=server.stream_address, timeout=10, long_timeout=10) as made:
        yield made
