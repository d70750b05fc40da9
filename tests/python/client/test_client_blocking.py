"""The blocking client: addresses, deadlines, retries, closing, and use from another process."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from embedcore.addresses import join_address, split_address, stream_address_of
from embedcore.client import Client
from embedcore.errors import DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from embedcore.remote import RemotePlatform
from embedcore.server import Server, ServerConfig
from embedcore.types import Item, SearchRequest
from support.fake_platform import DIGEST, FakePlatform, toy_vector


def unavailable(times: int) -> Iterator[Unavailable | None]:
    return itertools.chain([Unavailable("loading")] * times, itertools.repeat(None))


def test_idempotent_calls_are_retried_while_the_server_is_unavailable(
    client: Client, platform: FakePlatform
) -> None:
    client.upsert([Item("a", "boat")])
    platform.failing.update(search=unavailable(2), get_item=unavailable(2), status=unavailable(2))
    assert client.search("search", "boat").hits[0].id == "a"
    assert client.get_item("a").content == "boat"
    assert client.status().live_items == 1


def test_retries_end(client: Client, platform: FakePlatform) -> None:
    platform.failing["search"] = Unavailable("loading still")
    with pytest.raises(Unavailable, match="loading still"):
        client.search("search", "boat")


def test_writes_are_not_retried(client: Client, platform: FakePlatform) -> None:
    platform.failing.update(upsert=unavailable(1), delete=unavailable(1))
    with pytest.raises(Unavailable, match="loading"):
        client.upsert([Item("a", "boat")])
    with pytest.raises(Unavailable, match="loading"):
        client.delete(["a"])
    assert platform.sequence == 0


def test_no_server_is_unavailable_with_the_address(server: Server) -> None:
    server.stop(0.0)
    with Client(server.address) as client:
        with pytest.raises(Unavailable, match=rf"no answer from {server.address}.*is a server running there"):
            client.upsert([Item("a")])
        with pytest.raises(Unavailable, match="no server at"):
            client.wait_until_ready(0.1)


def test_a_client_outlives_a_restart_of_the_server(platform: FakePlatform) -> None:
    with Server(platform, ServerConfig(listen="127.0.0.1:0")) as first:
        config = ServerConfig(listen=first.address, stream_listen=first.stream_address)
        client = Client(first.address, stream_address=first.stream_address, wait_for_ready=True)
        client.upsert([Item("a", "boat")])
    answers: list[str] = []
    asking = threading.Thread(
        target=lambda: answers.append(client.search("search", "boat", timeout=20).hits[0].id), daemon=True
    )
    asking.start()  # while nobody listens
    asking.join(0.2)
    assert answers == []
    with Server(platform, config):
        asking.join(20)
        assert answers == ["a"]
        client.close()


def test_a_deadline_is_kept(client: Client, platform: FakePlatform) -> None:
    platform.blocking["search"] = threading.Event()
    with pytest.raises(DeadlineExceeded):
        client.search("search", "boat", timeout=0.1)
    platform.blocking["search"].set()


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    client.close()
    with pytest.raises(Unavailable, match="is closed; open another"):
        client.search("search", "boat")
    with pytest.raises(Unavailable, match="is closed"):
        next(client.watch_migration())


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda client: client.search("search", "x", k=0), "k must be at least 1, got 0"),
        (lambda client: client.search("search", 7), "cannot be sent"),
        (lambda client: client.search("search", "\ud800"), "cannot be sent"),
        (lambda client: client.search("search", vectors={DIGEST: [1.0, float("nan")]}), "finite"),
        (lambda client: client.search("search", "x", min_sequence={-1: 2}), "cannot be sent"),
        (lambda client: client.search("search", "x", filter={"a": None}), "NoneType"),
        (lambda client: client.upsert([Item(5)]), "cannot be sent"),  # type: ignore[arg-type]
        (lambda client: client.delete("abc"), "give a list of ids"),
        (lambda client: client.embed("toy", "abc"), "give a list of texts"),
        (lambda client: client.evaluate("search", -1), "cannot be sent"),
        (lambda client: client.report_engagement("ads", "blue", {}, simulated=True), "no arm named"),
    ],
)
def test_what_cannot_be_sent_is_an_invalid_argument(client: Client, call: object, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        call(client)  # type: ignore[operator]


def test_threads_share_a_client(client: Client) -> None:
    client.upsert([Item(str(number), f"text {number}") for number in range(20)])
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = client.search("search", f"text {number}", k=1).hits[0].id

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == {number: str(number) for number in range(20)}


def test_the_remote_platform_searches_by_request(server: Server) -> None:
    remote = RemotePlatform("grpc://" + server.address, stream_address=server.stream_address)
    with remote as platform:
        platform.upsert([Item("a", "boat"), Item("b", "bike")])
        answer = platform.search(SearchRequest("search", vectors={DIGEST: toy_vector("bike")}, k=1))
        assert [hit.id for hit in answer.hits] == ["b"]
        with pytest.raises(NotFound, match="no consumer 'x'"):
            platform.search(SearchRequest("x", text="boat"))
        platform.start_migration("toy", who="ann")
        assert [event.what for event in platform.migration_events()] == ["start"]


OTHER_PROCESS = """
import json, sys
from embedcore.client import Client
from embedcore.errors import NotFound
from embedcore.types import Item
with Client(sys.argv[1], stream_address=sys.argv[2]) as client:
    client.wait_until_ready(20)
    token = client.upsert([Item("a", "boat", attributes={"n": 1})]).token
    try:
        client.search("nobody", "boat")
    except NotFound as error:
        refused = error.message
    receipts = [receipt.versions for receipt in client.ingest([[Item("b")], [Item("c")]])]
    loaded = [name for name in ("sqlalchemy", "onnxruntime", "embedcore.platform") if name in sys.modules]
    found = client.search("search", "boat", min_sequence=token).hits[0].id
    print(json.dumps([found, refused, receipts, loaded]))
"""


def test_from_another_process_without_the_platforms_modules(server: Server, platform: FakePlatform) -> None:
    command = [sys.executable, "-c", OTHER_PROCESS, server.address, server.stream_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found, refused, receipts, loaded = json.loads(done.stdout)
    assert found == "a"
    assert refused.startswith("no consumer 'nobody': known are")
    assert receipts == [[1], [1]]
    assert loaded == []
    assert [item.id for item in platform.items.values()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:7600", ("127.0.0.1", 7600)),
        ("grpc://host:1/", ("host", 1)),
        ("[::1]:7600", ("::1", 7600)),
        (":80", ("", 80)),
    ],
)
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected
    assert split_address(join_address(*expected)) == expected
    host, port = split_address(stream_address_of(address))
    assert (host, port) == (expected[0], expected[1] + 1)


@pytest.mark.parametrize("address", ["", "host", "host:", "host:-1", "host:7o", "host:65536", "::1:5"])
def test_bad_addresses(address: str) -> None:
    with pytest.raises(InvalidArgument, match="address"):
        Client(address)
