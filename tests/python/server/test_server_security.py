"""Who may connect: loopback without protection, anywhere with TLS and a token, nobody with a wrong token."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedcore.addresses import is_loopback, split_address
from embedcore.client import Client
from embedcore.errors import FailedPrecondition, InvalidArgument, Unauthenticated, Unavailable
from embedcore.server import Server, ServerConfig
from embedcore.types import Item, SearchRequest
from support.fake_platform import FakePlatform

TOKEN = "4f1c0a" * 8


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) for localhost and 127.0.0.1, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "server.pem", folder / "server.key"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(made)]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return made, key


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0"])
@pytest.mark.parametrize("given", ["nothing", "token", "tls"])
def test_an_address_beyond_loopback_needs_tls_and_a_token(
    address: str, given: str, certificate: tuple[Path, Path], token_file: Path
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "nothing": {},
        "token": {"token_file": token_file},
        "tls": {"tls_certificate": certificate[0], "tls_key": certificate[1]},
    }
    for config in (
        ServerConfig(listen=address, **settings[given]),
        ServerConfig(listen="127.0.0.1:0", stream_listen=address, **settings[given]),
    ):
        with pytest.raises(FailedPrecondition, match="configure tls_certificate, tls_key and token_file"):
            Server(FakePlatform(), config)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("10.0.0.1", False),
        ("no-such-host.invalid", False),
    ],
)
def test_what_counts_as_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_tls_and_token_serve_every_interface(certificate: tuple[Path, Path], token_file: Path) -> None:
    made, key = certificate
    config = ServerConfig(listen="0.0.0.0:0", tls_certificate=made, tls_key=key, token_file=token_file)
    with Server(FakePlatform(), config) as server:
        data, streams = (
            f"localhost:{split_address(one)[1]}" for one in (server.address, server.stream_address)
        )
        with Client(data, stream_address=streams, token=TOKEN, root_certificates=made) as client:
            client.wait_until_ready(10)
            client.upsert([Item("a", "boat")])
            assert client.search("search", "boat").hits[0].id == "a"
            assert [
                len(answer.hits) for answer in client.search_stream([SearchRequest("ads", text="x")])
            ] == [1]
            assert client.serving()
        with (
            Client(data, stream_address=streams, root_certificates=made.read_bytes()) as client,
            pytest.raises(Unauthenticated, match="carries no token: send"),
        ):
            client.search("search", "boat")
        with Client(data, stream_address=streams) as client, pytest.raises(Unavailable):
            client.upsert([Item("b", "plain text to a TLS port")])


@pytest.mark.parametrize("metadata", [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", TOKEN, "Basic eA=="])
@pytest.mark.parametrize("port", ["address", "stream_address"])
def test_a_missing_or_wrong_token_is_refused_on_both_ports(
    token_file: Path, metadata: str | None, port: str
) -> None:
    sent = [] if metadata is None else [("authorization", metadata)]
    calls: list[Callable[[grpc.Channel], Any]] = [
        lambda channel: health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), metadata=sent
        ),
        lambda channel: next(
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), metadata=sent)
        ),
    ]
    with (
        Server(FakePlatform(), ServerConfig(listen="127.0.0.1:0", token_file=token_file)) as server,
        grpc.insecure_channel(getattr(server, port)) as channel,
    ):
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call(channel)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert "authorization: Bearer" in caught.value.details()
            assert TOKEN not in caught.value.details()


def test_the_client_gets_unauthenticated_from_streams_and_calls(token_file: Path) -> None:
    with Server(FakePlatform(), ServerConfig(listen="127.0.0.1:0", token_file=token_file)) as server:
        for token in (None, "wrong"):
            with Client(server.address, stream_address=server.stream_address, token=token) as client:
                with pytest.raises(Unauthenticated):
                    client.consumers()
                with pytest.raises(Unauthenticated):
                    list(client.search_stream([SearchRequest("search", text="x")]))
        with Client(server.address, stream_address=server.stream_address, token=TOKEN) as client:
            assert len(client.consumers()) == 4


def test_a_client_never_sends_a_token_in_clear_text_to_another_machine() -> None:
    with pytest.raises(InvalidArgument, match="clear text: give root_certificates"):
        Client("192.0.2.1:7600", token=TOKEN)
    with pytest.raises(InvalidArgument, match="clear text"):
        Client("127.0.0.1:7600", stream_address="192.0.2.1:7601", token=TOKEN)


def test_unusable_files_are_refused(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    short, two_lines = tmp_path / "short", tmp_path / "two"
    short.write_text("secret\n")
    two_lines.write_text(f"{TOKEN}\n{TOKEN}\n")
    for path in (short, two_lines):
        with pytest.raises(InvalidArgument, match="one line of at least 16"):
            Server(FakePlatform(), ServerConfig(listen="127.0.0.1:0", token_file=path))
    with pytest.raises(InvalidArgument, match=r"token file .*No such file"):
        Server(FakePlatform(), ServerConfig(listen="127.0.0.1:0", token_file=tmp_path / "none"))
    with pytest.raises(InvalidArgument, match="give both files"):
        Server(FakePlatform(), ServerConfig(listen="127.0.0.1:0", tls_certificate=certificate[0]))
    with pytest.raises(InvalidArgument, match=r"root certificates .*No such file"):
        Client("127.0.0.1:7600", root_certificates=tmp_path / "none")
