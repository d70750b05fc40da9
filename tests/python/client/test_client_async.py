"""The asynchronous client: the same answers and errors as the blocking one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from embedcore.client import AsyncClient, Client
from embedcore.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    GateNotMet,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from embedcore.migration_types import Phase, Plan
from embedcore.server import Server
from embedcore.types import Item, SearchRequest
from support.fake_platform import FakePlatform, gates


def run(server: Server, scene: Callable[[AsyncClient], Awaitable[None]], **settings: float) -> None:
    async def main() -> None:
        made = AsyncClient(server.address, stream_address=server.stream_address, **settings)
        async with made as client:
            await asyncio.wait_for(scene(client), 30)

    asyncio.run(main())


def test_data_calls(server: Server, client: Client) -> None:
    async def scene(aio: AsyncClient) -> None:
        await aio.wait_until_ready(10)
        receipt = await aio.upsert([Item("a", "boat", attributes={"n": 1}), Item("b", "bike")])
        assert receipt.token == {0: 2}
        assert await aio.search("search", "boat", k=1) == client.search("search", "boat", k=1)
        assert await aio.get_item("a") == client.get_item("a")
        requests = [SearchRequest("search", text=text) for text in ("boat", "bike")]
        assert await aio.search_batch(requests) == client.search_batch(requests)
        fingerprint, vectors = await aio.embed("toy", ["boat"])
        assert (fingerprint.model, vectors.shape) == ("toy", (1, 8))
        assert (await aio.delete(["a"])).versions == (2,)
        assert await aio.serving("embedcore.v1.SearchService")

    run(server, scene)


def test_many_at_once(server: Server) -> None:
    async def scene(aio: AsyncClient) -> None:
        await aio.upsert([Item(str(number), f"text {number}") for number in range(30)])
        answers = await asyncio.gather(*(aio.search("search", f"text {number}") for number in range(30)))
        assert [answer.hits[0].id for answer in answers] == [str(number) for number in range(30)]

    run(server, scene)


def test_streams_take_plain_and_asynchronous_iterators(server: Server) -> None:
    async def batches() -> AsyncIterator[list[Item]]:
        for name in "ab":
            yield [Item(name, name)]

    async def scene(aio: AsyncClient) -> None:
        assert [receipt.token[0] async for receipt in aio.ingest(batches())] == [1, 2]
        assert [receipt.token[0] async for receipt in aio.ingest([[Item("c", "c")]])] == [3]
        requests = [SearchRequest("search", text=name, k=1) for name in "cab"]
        assert [answer.hits[0].id async for answer in aio.search_stream(requests)] == ["c", "a", "b"]

    run(server, scene)


def test_control_calls(server: Server, platform: FakePlatform) -> None:
    async def scene(aio: AsyncClient) -> None:
        started = await aio.start_migration("toy", Plan(unified=True), who="ann")
        assert started.migration.plan.unified
        assert await aio.migrations() == [started]
        watched = aio.watch_migration()
        assert (await anext(watched)).migration.phase is Phase.DUAL_WRITE
        await aio.set_weight("", "ads", 0.5, who="ann")
        await aio.pause_migration(who="ann")
        await aio.resume_migration(who="ann")
        await aio.revert_consumer("", "ads", who="ann")
        await aio.rollback(who="ann")
        await aio.abort_migration(who="ann")
        assert [status async for status in watched][-1].migration.phase is Phase.ABORTED
        assert [event.what for event in await aio.migration_events(after=4)] == [
            "revert",
            "rollback",
            "abort",
        ]
        assert await aio.consumers() == platform.consumers()
        assert await aio.models() == platform.models()
        assert (await aio.generations())[0].generation.number == 1
        assert (await aio.status()).ready
        assert await aio.evaluate("search", 1) == platform.evaluate("search", 1)
        assert await aio.compare("search", 1, 2) == platform.compare("search", 1, 2)
        await aio.report_engagement("ads", "control", {"clicks": 2}, simulated=False)
        assert platform.engagement[-1] == ("ads", "control", {"clicks": 2.0}, False, "")
        assert (await aio.compare_engagement("ads"))["summary"] == "no fall"

    run(server, scene)


def test_errors_come_back_as_themselves(server: Server, platform: FakePlatform) -> None:
    async def scene(aio: AsyncClient) -> None:
        with pytest.raises(NotFound, match="known are search"):
            await aio.search("nobody", "x")
        with pytest.raises(InvalidArgument, match="k must be at least 1"):
            await aio.search("search", "x", k=0)
        await aio.start_migration("toy", who="ann")
        with pytest.raises(GateNotMet) as caught:
            await aio.cutover(who="ann")
        assert caught.value.details["evidence"][0]["gate"] == gates(1)[0]["gate"]
        platform.failing["watch_migration"] = FailedPrecondition("not now")
        with pytest.raises(FailedPrecondition, match="not now"):
            await anext(aio.watch_migration())
        with pytest.raises(InvalidArgument, match="id is empty"):
            async for _ in aio.ingest([[Item("")]]):
                pass

    run(server, scene)


def test_a_broken_iterator_of_the_caller_is_the_callers_error(server: Server) -> None:
    def batches() -> Iterator[list[Item]]:
        yield [Item("a")]
        raise OSError("disk went away")

    async def scene(aio: AsyncClient) -> None:
        with pytest.raises(OSError, match="disk went away"):
            async for _ in aio.ingest(batches()):
                pass

    run(server, scene)


def test_deadlines_and_absent_servers(server: Server, platform: FakePlatform) -> None:
    async def scene(aio: AsyncClient) -> None:
        platform.failing["get_item"] = Unavailable("loading")
        with pytest.raises(Unavailable, match="loading"):
            await aio.get_item("a")
        server.stop(0.0)
        with pytest.raises(Unavailable, match="no server at"):
            await aio.wait_until_ready(0.1)
        with pytest.raises((Unavailable, DeadlineExceeded)):
            await aio.search("search", "x", timeout=0.5)
        await aio.close()
        with pytest.raises(Unavailable, match="is closed"):
            await aio.search("search", "x")

    run(server, scene)
