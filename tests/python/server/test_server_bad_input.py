"""Bad input, as any gRPC client can send it: the right status, a message that says what to do, no change."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from embedcore.server import Server
from embedcore.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    common_pb2,
    embed_pb2,
    embed_pb2_grpc,
    engagement_pb2,
    engagement_pb2_grpc,
    evaluation_pb2,
    evaluation_pb2_grpc,
    items_pb2,
    items_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
)
from support.fake_platform import DIGEST, DIMENSION, FakePlatform

STUBS = {
    "search": search_pb2_grpc.SearchServiceStub,
    "items": items_pb2_grpc.ItemServiceStub,
    "embed": embed_pb2_grpc.EmbedServiceStub,
    "migration": migration_pb2_grpc.MigrationServiceStub,
    "evaluation": evaluation_pb2_grpc.EvaluationServiceStub,
    "engagement": engagement_pb2_grpc.EngagementServiceStub,
    "admin": admin_pb2_grpc.AdminServiceStub,
}


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as made:
        yield made


def vector(values: Any = (1,) * DIMENSION, fingerprint: str = DIGEST, **fields: Any) -> common_pb2.Vector:
    return common_pb2.Vector(fingerprint=fingerprint, data=np.array(values, dtype="<f4").tobytes(), **fields)


def query(**fields: Any) -> search_pb2.SearchRequest:
    return search_pb2.SearchRequest(**{"consumer": "search", **fields})


def write(*items: common_pb2.Item) -> items_pb2.UpsertItemsRequest:
    return items_pb2.UpsertItemsRequest(items=items)


TEN_MB = "x" * 10_000_000
NAN = [float("nan")] + [0.0] * (DIMENSION - 1)
GOOD = common_pb2.Item(id="good", content="x")

CASES: dict[str, tuple[str, str, Any, str, str]] = {
    # The matrix of a search.
    "wrong dimension": (
        "search",
        "Search",
        query(vectors=[vector([1.0] * (DIMENSION + 1))]),
        "INVALID_ARGUMENT",
        "dimension 9",
    ),
    "wrong fingerprint, right dimension": (
        "search",
        "Search",
        query(vectors=[vector(fingerprint="ec1-other")]),
        "INVALID_ARGUMENT",
        "ec1-other is of no live generation",
    ),
    "no fingerprint": (
        "search",
        "Search",
        query(vectors=[vector(fingerprint="")]),
        "INVALID_ARGUMENT",
        "no fingerprint: name",
    ),
    "NaN": ("search", "Search", query(vectors=[vector(NAN)]), "INVALID_ARGUMENT", "nan at position 0: send"),
    "bytes that are no float32": (
        "search",
        "Search",
        query(vectors=[common_pb2.Vector(fingerprint=DIGEST, data=b"123")]),
        "INVALID_ARGUMENT",
        "3 bytes, no multiple of 4",
    ),
    "half as many bytes as dtype says": (
        "search",
        "Search",
        query(vectors=[common_pb2.Vector(fingerprint=DIGEST, data=b"123", dtype="DTYPE_FLOAT16")]),
        "INVALID_ARGUMENT",
        "no multiple of 2",
    ),
    "unknown consumer": (
        "search",
        "Search",
        query(consumer="serach", text="x"),
        "NOT_FOUND",
        "known are search, recsys",
    ),
    "no consumer": ("search", "Search", query(consumer="", text="x"), "INVALID_ARGUMENT", "ListConsumers"),
    "k = 0": ("search", "Search", query(text="x", k=0), "INVALID_ARGUMENT", "k must be at least 1"),
    "huge k": ("search", "Search", query(text="x", k=2**32 - 1), "INVALID_ARGUMENT", "the limit is 10,000"),
    "10 MB query": ("search", "Search", query(text=TEN_MB), "INVALID_ARGUMENT", "1,048,576 (1 MiB)"),
    "neither text nor vectors": ("search", "Search", query(), "INVALID_ARGUMENT", "send one of them"),
    "attribute without a value": (
        "search",
        "Search",
        query(text="x", filter={"a": common_pb2.AttributeValue()}),
        "INVALID_ARGUMENT",
        "'a' has no value",
    ),
    "long user key": ("search", "Search", query(text="x", user_key="u" * 513), "INVALID_ARGUMENT", "512"),
    "bad query in a batch": (
        "search",
        "BatchSearch",
        search_pb2.BatchSearchRequest(requests=[query(text="x"), query(text="x", k=0)]),
        "INVALID_ARGUMENT",
        "k must be at least 1",
    ),
    "too many queries": (
        "search",
        "BatchSearch",
        search_pb2.BatchSearchRequest(requests=[query(text="x")] * 10_001),
        "INVALID_ARGUMENT",
        "10,001 queries in one call, the limit is 10,000",
    ),
    # Writes.
    "10 MB item": (
        "items",
        "UpsertItems",
        write(GOOD, common_pb2.Item(id="big", content=TEN_MB)),
        "INVALID_ARGUMENT",
        "item 'big' has 10,000,000 bytes",
    ),
    "1 MiB in bytes, not in characters": (
        "items",
        "UpsertItems",
        write(GOOD, common_pb2.Item(id="big", content="é" * 600_000)),
        "INVALID_ARGUMENT",
        "1,200,000 bytes",
    ),
    "empty id": ("items", "UpsertItems", write(GOOD, common_pb2.Item()), "INVALID_ARGUMENT", "id is empty"),
    "long id": (
        "items",
        "UpsertItems",
        write(GOOD, common_pb2.Item(id="é" * 257)),
        "INVALID_ARGUMENT",
        "514 bytes, the limit is 512",
    ),
    "too many items": (
        "items",
        "UpsertItems",
        write(*[GOOD] * 10_001),
        "INVALID_ARGUMENT",
        "10,001 items in one call",
    ),
    "item vector of a wrong dimension": (
        "items",
        "UpsertItems",
        write(common_pb2.Item(id="v", vectors=[vector([1.0])])),
        "INVALID_ARGUMENT",
        "dimension 1",
    ),
    "infinite item vector": (
        "items",
        "UpsertItems",
        write(GOOD, common_pb2.Item(id="v", vectors=[vector([np.inf] * DIMENSION)])),
        "INVALID_ARGUMENT",
        "inf at position 0",
    ),
    "delete without an id": (
        "items",
        "DeleteItems",
        items_pb2.DeleteItemsRequest(ids=["a", ""]),
        "INVALID_ARGUMENT",
        "id is empty",
    ),
    "unknown item": ("items", "GetItem", items_pb2.GetItemRequest(id="a"), "NOT_FOUND", "no item 'a'"),
    # Models.
    "unknown model": ("embed", "Embed", embed_pb2.EmbedRequest(model="x"), "NOT_FOUND", "known are toy"),
    "no model": ("embed", "Embed", embed_pb2.EmbedRequest(), "INVALID_ARGUMENT", "ListModels"),
    "10 MB text": (
        "embed",
        "Embed",
        embed_pb2.EmbedRequest(model="toy", texts=["a", TEN_MB]),
        "INVALID_ARGUMENT",
        "text 1 has 10,000,000 bytes",
    ),
    "a Python function from a client": (
        "admin",
        "RegisterModel",
        admin_pb2.RegisterModelRequest(
            spec_json='{"name":"x","backend":"callable","fingerprint":{"model":"x","revision":"1",'
            '"dimension":2},"options":{"target":"os:system"}}'
        ),
        "PERMISSION_DENIED",
        "callable_targets",
    ),
    "a model that is no document": (
        "admin",
        "RegisterModel",
        admin_pb2.RegisterModelRequest(spec_json='{"name":"x"}'),
        "INVALID_ARGUMENT",
        "backend: Field required",
    ),
    "a consumer that is no JSON": (
        "admin",
        "SetConsumer",
        admin_pb2.SetConsumerRequest(consumer_json="{"),
        "INVALID_ARGUMENT",
        "no valid Consumer",
    ),
    "a generation without a model": (
        "admin",
        "CreateGeneration",
        admin_pb2.CreateGenerationRequest(),
        "INVALID_ARGUMENT",
        "ListModels",
    ),
    # Migrations.
    "migration to an unknown model": (
        "migration",
        "StartMigration",
        migration_pb2.StartMigrationRequest(target_model="toi", who="ann"),
        "NOT_FOUND",
        "known are toy",
    ),
    "migration to no model": (
        "migration",
        "StartMigration",
        migration_pb2.StartMigrationRequest(who="ann"),
        "INVALID_ARGUMENT",
        "no target model",
    ),
    "migration by nobody": (
        "migration",
        "StartMigration",
        migration_pb2.StartMigrationRequest(target_model="toy", who=" "),
        "INVALID_ARGUMENT",
        "who is empty",
    ),
    "plan with an unknown field": (
        "migration",
        "StartMigration",
        migration_pb2.StartMigrationRequest(target_model="toy", who="ann", plan_json='{"speed":1}'),
        "INVALID_ARGUMENT",
        "plan_json is no valid Plan: speed",
    ),
    "weight beyond 1": (
        "migration",
        "SetWeight",
        migration_pb2.SetWeightRequest(consumer="ads", weight=1.5, who="ann"),
        "INVALID_ARGUMENT",
        "weight is 1.5",
    ),
    "weight NaN": (
        "migration",
        "SetWeight",
        migration_pb2.SetWeightRequest(consumer="ads", weight=float("nan"), who="ann"),
        "INVALID_ARGUMENT",
        "weight is nan",
    ),
    "override of a rollback": (
        "migration",
        "Rollback",
        migration_pb2.ControlRequest(who="ann", override_reason="now"),
        "INVALID_ARGUMENT",
        "passes no gate",
    ),
    "no migration": (
        "migration",
        "GetMigration",
        migration_pb2.GetMigrationRequest(),
        "NOT_FOUND",
        "start one",
    ),
    # Evaluation and engagement.
    "golden set that is cut off": (
        "evaluation",
        "ImportGoldenSet",
        evaluation_pb2.ImportGoldenSetRequest(golden_set_json=lzma.compress(b"{}")[:-20]),
        "INVALID_ARGUMENT",
        "xz data",
    ),
    "golden set that is no document": (
        "evaluation",
        "ImportGoldenSet",
        evaluation_pb2.ImportGoldenSetRequest(golden_set_json=lzma.compress(b'{"name":"x"}')),
        "INVALID_ARGUMENT",
        "consumer: Field required",
    ),
    "evaluation of nobody": (
        "evaluation",
        "Evaluate",
        evaluation_pb2.EvaluateRequest(),
        "INVALID_ARGUMENT",
        "ListConsumers",
    ),
    "engagement without an arm": (
        "engagement",
        "Report",
        engagement_pb2.ReportEngagementRequest(consumer="ads"),
        "INVALID_ARGUMENT",
        "ARM_CONTROL or ARM_CANARY",
    ),
    "engagement that cannot be": (
        "engagement",
        "Report",
        engagement_pb2.ReportEngagementRequest(consumer="ads", arm="ARM_CANARY", depth=-1.0),
        "INVALID_ARGUMENT",
        "depth is -1.0",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(channel: grpc.Channel, platform: FakePlatform, case: str) -> None:
    service, method, request, status, expected = CASES[case]
    with pytest.raises(grpc.RpcError) as caught:
        getattr(STUBS[service](channel), method)(request, timeout=20)
    assert caught.value.code().name == status
    assert expected in caught.value.details()
    assert "\n" not in caught.value.details()
    assert platform.sequence == 0
    assert platform.running is None
    assert list(platform.registered) == ["toy"]


def test_limits_are_inclusive(channel: grpc.Channel, platform: FakePlatform) -> None:
    stub = items_pb2_grpc.ItemServiceStub(channel)
    largest = common_pb2.Item(id="i" * 512, content="x" * (1 << 20))
    assert list(stub.UpsertItems(write(largest), timeout=20).versions) == [1]
    assert len(stub.UpsertItems(write(*[GOOD] * 10_000), timeout=20).versions) == 10_000
    answer = search_pb2_grpc.SearchServiceStub(channel).Search(query(text="x" * (1 << 20), k=10_000))
    assert len(answer.hits) == 2


def test_a_bad_batch_ends_an_ingest_stream_and_keeps_what_was_acknowledged(
    server: Server, platform: FakePlatform
) -> None:
    with grpc.insecure_channel(server.stream_address) as channel:
        stream = items_pb2_grpc.ItemServiceStub(channel).IngestStream(
            iter([write(GOOD), write(GOOD, common_pb2.Item()), write(common_pb2.Item(id="late"))])
        )
        assert list(next(stream).versions) == [1]
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(platform.items) == [("", "good")]
    assert platform.items["", "good"].version == 1


def test_a_golden_set_that_unpacks_to_too_much_is_refused() -> None:
    from embedcore.errors import InvalidArgument
    from embedcore.server import evaluation

    bomb = lzma.compress(b"[" * (8 << 20), preset=0)
    assert len(bomb) < 4_000
    limit = evaluation.MAX_GOLDEN_BYTES
    evaluation.MAX_GOLDEN_BYTES = 1 << 20
    try:
        with pytest.raises(InvalidArgument, match="unpacks to more than"):
            evaluation.unpack_golden_set(bomb)
    finally:
        evaluation.MAX_GOLDEN_BYTES = limit
    assert evaluation.unpack_golden_set(bomb) == b"[" * (8 << 20)
