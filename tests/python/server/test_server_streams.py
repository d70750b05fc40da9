"""Streams have slots and threads of their own: at the limit they are refused at once and starve nobody."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator

import grpc
import pytest

from embedcore.client import Client
from embedcore.errors import InvalidArgument, ResourceExhausted, Unavailable
from embedcore.server import Server, ServerConfig
from embedcore.types import Item, SearchRequest
from embedcore.v1 import search_pb2, search_pb2_grpc
from support.fake_platform import FakePlatform


@pytest.fixture
def three_streams(client: Client) -> Iterator[list[Iterator[object]]]:
    """All three slots of the test's server taken by streams that have answered once and stay open."""
    client.start_migration("toy", who="ann")
    streams = [client.watch_migration() for _ in range(3)]
    for stream in streams:
        next(stream)
    yield list(streams)
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]


def test_a_stream_beyond_the_slots_is_refused_at_once(
    client: Client, three_streams: list[Iterator[object]]
) -> None:
    for attempt in (
        client.watch_migration(),
        client.search_stream(iter([SearchRequest("search", text="x")])),
        client.ingest(iter([[Item("a")]])),
    ):
        with pytest.raises(ResourceExhausted, match="all 3 stream slots are taken: close a stream"):
            next(attempt)


def test_open_streams_at_the_limit_starve_no_unary_call(
    client: Client, three_streams: list[Iterator[object]]
) -> None:
    client.upsert([Item("a", "boat")])
    for _ in range(20):
        assert client.search("search", "boat", timeout=5).hits[0].id == "a"
    # Long control calls go to the same port as the streams, and have slots beside theirs.
    assert client.evaluate("search")["queries"] == 500
    assert client.revert_consumer("m1", "ads", who="ann").migration.consumers["ads"].reverted


def test_a_closed_stream_gives_its_slot_back(client: Client, three_streams: list[Iterator[object]]) -> None:
    three_streams[1].close()  # type: ignore[attr-defined]
    for _ in range(200):  # the server notices at its next message
        with contextlib.suppress(ResourceExhausted):
            again = client.watch_migration()
            next(again)
            again.close()
            break
    else:
        pytest.fail("the slot never came back")


def test_open_streams_that_send_nothing_starve_no_unary_call(server: Server, client: Client) -> None:
    quiet = threading.Event()

    def silent() -> Iterator[SearchRequest]:
        yield SearchRequest("search", text="x")
        quiet.wait(20)

    streams = [client.search_stream(silent()) for _ in range(3)]
    for stream in streams:
        next(stream)
    assert client.search("search", "boat", timeout=5).hits == ()
    with pytest.raises(ResourceExhausted):
        next(client.watch_migration())
    quiet.set()
    assert [list(stream) for stream in streams] == [[], [], []]


def test_a_caller_that_goes_away_is_no_error(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    gone = threading.Event()

    def silent() -> Iterator[SearchRequest]:
        yield SearchRequest("search", text="x")
        gone.wait(20)

    stream = client.search_stream(silent())
    next(stream)
    gone.wait(0.3)  # the server waits for the second request by now
    stream.close()  # type: ignore[attr-defined]
    assert server.stop(5.0)  # every handler has returned
    gone.set()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_open_reflection_streams_starve_no_unary_call(server: Server, client: Client) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    done = threading.Event()

    def open_ended() -> Iterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        done.wait(20)

    with grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        first = stub.ServerReflectionInfo(open_ended())
        next(first)
        streams = [first] + [stub.ServerReflectionInfo(open_ended()) for _ in range(7)]
        assert client.search("search", "x", timeout=5).hits == ()
        done.set()
        for stream in streams:
            stream.cancel()


def test_bulk_writes_starve_no_query(platform: FakePlatform) -> None:
    platform.blocking["upsert"] = threading.Event()
    config = ServerConfig(listen="127.0.0.1:0", workers=1, bulk_workers=1)
    with Server(platform, config) as server, Client(server.address) as client:
        writer = threading.Thread(target=client.upsert, args=([Item("a")],), daemon=True)
        writer.start()
        assert platform.entered.wait(10)
        assert client.search("search", "x", timeout=5).hits == ()
        platform.blocking["upsert"].set()
        writer.join(10)
    assert len(platform.items) == 1


def test_calls_beyond_the_queue_are_refused(platform: FakePlatform) -> None:
    platform.blocking["search"] = threading.Event()
    config = ServerConfig(listen="127.0.0.1:0", workers=1, max_queued=1)
    with Server(platform, config) as server, Client(server.address, stream_address="127.0.0.1:9") as client:
        first = threading.Thread(target=client.search, args=("search", "x"), daemon=True)
        first.start()
        assert platform.entered.wait(10)
        with pytest.raises(ResourceExhausted, match="try again later"):
            client.search("search", "y", timeout=5)
        platform.blocking["search"].set()
        first.join(10)


def test_the_data_port_says_where_streams_are_served(server: Server) -> None:
    with grpc.insecure_channel(server.address) as channel:
        stream = search_pb2_grpc.SearchServiceStub(channel).SearchStream(iter([search_pb2.SearchRequest()]))
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert server.stream_address in caught.value.details()


def test_watching_with_events_sends_each_once(client: Client, server: Server) -> None:
    from embedcore.v1 import migration_pb2, migration_pb2_grpc

    client.start_migration("toy", who="ann")
    with grpc.insecure_channel(server.stream_address) as channel:
        stub = migration_pb2_grpc.MigrationServiceStub(channel)
        stream = stub.WatchMigration(migration_pb2.GetMigrationRequest(events_after=0))
        numbers = [event.number for event in next(stream).events]
        client.pause_migration(who="ann")
        client.abort_migration(who="ann")
        for status in stream:
            numbers += [event.number for event in status.events]
    assert numbers == [1, 2, 3]


def test_a_failed_request_ends_a_search_stream_after_the_answers_before_it(client: Client) -> None:
    client.upsert([Item("a", "boat")])
    good = SearchRequest("search", text="boat")
    stream = client.search_stream([good, good, SearchRequest("search")])
    assert [next(stream).hits[0].id for _ in range(2)] == ["a", "a"]
    with pytest.raises(InvalidArgument, match="neither text nor vectors"):
        next(stream)


def test_a_broken_iterator_of_the_caller_is_the_callers_error(client: Client, platform: FakePlatform) -> None:
    def batches() -> Iterator[list[Item]]:
        yield [Item("a")]
        raise OSError("disk went away")

    receipts = client.ingest(batches())
    with pytest.raises(OSError, match="disk went away"):
        list(receipts)
    assert list(platform.items) in ([("", "a")], [])


def test_a_large_stream_is_not_read_ahead_without_end(client: Client, platform: FakePlatform) -> None:
    platform.blocking["upsert"] = threading.Event()
    taken = itertools.count()
    seen = 0

    def batches() -> Iterator[list[Item]]:
        nonlocal seen
        while True:
            seen = next(taken)
            yield [Item(str(seen), "x" * 1_000_000)]

    receipts = client.ingest(batches())
    waiting = threading.Thread(target=lambda: next(receipts), daemon=True)
    waiting.start()
    assert platform.entered.wait(10)
    waiting.join(0.3)
    assert seen < 150  # flow control holds the sender at a window of some 20 MB
    platform.blocking["upsert"].set()
    waiting.join(10)
    receipts.close()  # type: ignore[attr-defined]


def test_streams_end_when_the_server_drains(client: Client, server: Server) -> None:
    client.start_migration("toy", who="ann")
    stream = client.watch_migration()
    next(stream)
    assert server.stop(2.0)
    with pytest.raises(Unavailable, match="shutting down: connect again"):
        for _ in stream:
            pass
