"""The real platform behind a real server: bad input gets the right status and says what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from embedcore.platform import Platform
from embedcore.server import Server, ServerConfig
from embedcore.v1 import (
    common_pb2,
    items_pb2,
    items_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from support.toys import NEW, OLD, toy_items


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    directory: Path = tmp_path_factory.mktemp("served") / "data"
    with Platform.open(directory) as platform:
        assert isinstance(platform, Platform)
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        platform.upsert(toy_items(50))
        config = ServerConfig(listen="127.0.0.1:0", stream_listen="127.0.0.1:0")
        with Server(platform, config) as server:
            options = [("grpc.max_send_message_length", 64 << 20)]
            with grpc.insecure_channel(server.address, options=options) as opened:
                yield opened


def vector(values: np.ndarray, fingerprint: str) -> common_pb2.Vector:
    return common_pb2.Vector(fingerprint=fingerprint, data=values.astype("<f4").tobytes())


OWN = OLD.fingerprint.digest
OTHER = NEW.fingerprint.digest
BAD_SEARCHES: dict[str, tuple[search_pb2.SearchRequest, grpc.StatusCode, str]] = {
    "wrong dimension": (
        search_pb2.SearchRequest(consumer="search", vectors=[vector(np.ones(31), OWN)]),
        grpc.StatusCode.INVALID_ARGUMENT,
        "(32,)",
    ),
    "wrong fingerprint, right dimension": (
        search_pb2.SearchRequest(consumer="search", vectors=[vector(np.ones(32), OTHER)]),
        grpc.StatusCode.INVALID_ARGUMENT,
        OWN,
    ),
    "NaN": (
        search_pb2.SearchRequest(consumer="search", vectors=[vector(np.full(32, np.nan), OWN)]),
        grpc.StatusCode.INVALID_ARGUMENT,
        "finite",
    ),
    "unknown consumer": (
        search_pb2.SearchRequest(consumer="nobody", text="w1"),
        grpc.StatusCode.NOT_FOUND,
        "known: ads",
    ),
    "k = 0": (
        search_pb2.SearchRequest(consumer="search", text="w1", k=0),
        grpc.StatusCode.INVALID_ARGUMENT,
        "k must be",
    ),
    "10 MB of text": (
        search_pb2.SearchRequest(consumer="search", text="x" * 10_000_000),
        grpc.StatusCode.INVALID_ARGUMENT,
        "limit",
    ),
    "nothing to search for": (
        search_pb2.SearchRequest(consumer="search"),
        grpc.StatusCode.INVALID_ARGUMENT,
        "text",
    ),
}


def refused(call: Callable[[], object]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize("name", BAD_SEARCHES)
def test_a_bad_search(channel: grpc.Channel, name: str) -> None:
    request, status, says = BAD_SEARCHES[name]
    error = refused(lambda: search_pb2_grpc.SearchServiceStub(channel).Search(request, timeout=20))
    assert error.code() is status
    assert says in error.details()
    assert "\n" not in error.details()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (items_pb2.UpsertItemsRequest(items=[common_pb2.Item(id="a", content="x" * 10_000_000)]), "limit"),
        (
            items_pb2.UpsertItemsRequest(
                items=[common_pb2.Item(id="a", vectors=[vector(np.ones(32), OTHER)])]
            ),
            OWN,
        ),
        (items_pb2.UpsertItemsRequest(items=[common_pb2.Item(id="", content="w1")]), "id"),
    ],
)
def test_a_bad_write_changes_nothing(
    channel: grpc.Channel, bad: items_pb2.UpsertItemsRequest, says: str
) -> None:
    items = items_pb2_grpc.ItemServiceStub(channel)
    bad.items.insert(0, common_pb2.Item(id="beside", content="w1 w2"))
    error = refused(lambda: items.UpsertItems(bad, timeout=20))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in error.details()
    error = refused(lambda: items.GetItem(items_pb2.GetItemRequest(id="beside"), timeout=20))
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_an_unknown_model_cannot_be_a_target(channel: grpc.Channel) -> None:
    request = migration_pb2.StartMigrationRequest(target_model="no-such-model", who="test")
    stub = migration_pb2_grpc.MigrationServiceStub(channel)
    error = refused(lambda: stub.StartMigration(request, timeout=20))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "no-such-model" in error.details()


def test_a_good_search_says_who_answered(channel: grpc.Channel) -> None:
    request = search_pb2.SearchRequest(consumer="search", text="w1 w2", user_key="u", request_id="r-1")
    answer = search_pb2_grpc.SearchServiceStub(channel).Search(request, timeout=20)
    assert len(answer.hits) == 10
    assert answer.request_id == "r-1"
    assert list(answer.provenance.models) == ["toy-old"]
    assert list(answer.provenance.fingerprints) == [OWN]
    assert answer.provenance.shards_answered == answer.provenance.shards_asked == 1
