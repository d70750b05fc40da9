"""Every error of embedcore through the wire and back; evidence within gRPC's limits; no leaks."""

from __future__ import annotations

import base64
import json
import logging
import re
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from embedcore.client import Client
from embedcore.errors import ERRORS, EmbedcoreError, FailedPrecondition, GateNotMet, Internal
from embedcore.server import Server
from embedcore.server.errors import json_within, status_of
from embedcore.v1 import items_pb2, items_pb2_grpc
from support.fake_platform import FakePlatform, gates


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_comes_back_as_itself(client: Client, platform: FakePlatform, code: str) -> None:
    kind = ERRORS[code]
    details = {"evidence": [{"gate": "quality", "lower": -0.031}], "n": 500}
    platform.failing["get_item"] = kind("größer als 2 pp; run it again", details)
    with pytest.raises(EmbedcoreError) as caught:
        client.get_item("a")
    assert type(caught.value) is kind
    assert caught.value.message == "größer als 2 pp; run it again"
    assert caught.value.details == details


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_has_its_status_and_standard_details(
    server: Server, platform: FakePlatform, code: str
) -> None:
    platform.failing["get_item"] = ERRORS[code]("no")
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        items_pb2_grpc.ItemServiceStub(channel).GetItem(items_pb2.GetItemRequest(id="a"))
    assert caught.value.code().name == ERRORS[code].grpc_status
    packed = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(packed)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.message, info.reason, info.domain) == ("no", code, "embedcore")


def test_an_unexpected_exception_says_nothing_but_an_id_which_the_log_has(
    client: Client, platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    platform.failing["search"] = RuntimeError("password is hunter2")
    with caplog.at_level(logging.ERROR, "embedcore.server"), pytest.raises(Internal) as caught:
        client.search("search", "x")
    found = re.fullmatch(r"internal error ([0-9a-f]{8}): the server's log .*", caught.value.message)
    assert found is not None
    assert "hunter2" not in repr(caught.value) + repr(caught.value.details)
    (record,) = caplog.records
    assert found[1] in record.getMessage()
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


def test_errors_of_streams_are_translated_too(client: Client, platform: FakePlatform) -> None:
    platform.failing["watch_migration"] = FailedPrecondition("not now", {"why": 1})
    with pytest.raises(FailedPrecondition, match="not now") as caught:
        next(client.watch_migration())
    assert caught.value.details == {"why": 1}


def test_large_evidence_arrives_with_every_gate_and_within_the_limit(
    client: Client, platform: FakePlatform
) -> None:
    refused = GateNotMet("four consumers lose", {"evidence": gates(20), "source": 1})
    platform.failing["search"] = refused
    with pytest.raises(GateNotMet) as caught:
        client.search("search", "x")
    found = caught.value.details
    assert found["truncated"] is True
    assert found["source"] == 1
    assert [gate["gate"] for gate in found["evidence"]] == [f"gate-{number}" for number in range(20)]
    assert all("-3.10 pp" in gate["summary"] for gate in found["evidence"])


@pytest.mark.parametrize(
    "error",
    [
        GateNotMet("no", {"evidence": gates(200)}),
        GateNotMet("ü" * 5_000, {"evidence": gates(200)}),
        GateNotMet("no", {"text": "x" * 100_000}),
        GateNotMet("m" * 1_000, {"text": "x" * 5_900}),
        GateNotMet("no", {f"key-{number}": "x" * 90 for number in range(58)}),
        GateNotMet("no", {f"key-{number}": "ü" * 500 for number in range(1_000)}),
        GateNotMet("no", {"k" * 7_000: 1}),
        GateNotMet("line\n" * 1_000),
    ],
)
def test_metadata_stays_below_what_grpc_peers_accept(error: GateNotMet) -> None:
    status = status_of(error)
    as_base64 = len(base64.b64encode(status.SerializeToString())) + len(quote(status.message, safe=" "))
    assert as_base64 < 8_192 - 200  # the limit of most peers, less the other headers
    assert "\n" not in status.message
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    if error.details:
        assert isinstance(json.loads(info.metadata["details"]), dict)


@pytest.mark.parametrize("limit", [6_000, 2_000, 500, 100, 20])
def test_shortened_evidence_is_json_within_the_limit(limit: int) -> None:
    details: dict[str, Any] = {"evidence": gates(30), "note": "x" * 3_000}
    text = json_within(details, limit)
    assert len(text.encode()) <= limit
    assert json.loads(text)["truncated"] is True
    assert json_within({"a": 1}, limit) == '{"a":1}'
