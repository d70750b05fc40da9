"""Documents through messages: registries, migrations, evaluation, engagement."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from embedcore import wire_documents as documents
from embedcore.api import PlatformStatus
from embedcore.errors import InvalidArgument
from embedcore.types import DEFAULT_CONSUMERS, Consumer
from embedcore.v1 import engagement_pb2
from support.fake_platform import FakePlatform


def through_bytes(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


@pytest.mark.parametrize("consumer", DEFAULT_CONSUMERS, ids=lambda one: one.name)
def test_consumers_round_trip(consumer: Consumer) -> None:
    message = through_bytes(documents.consumer_to_message(consumer))
    assert documents.consumer_from_message(message) == consumer


def test_registries_and_status_round_trip() -> None:
    platform = FakePlatform()
    (spec,), (generation,) = platform.models(), platform.generations()
    assert documents.model_from_message(through_bytes(documents.model_to_message(spec))) == spec
    message = through_bytes(documents.generation_status_to_message(generation))
    assert documents.generation_status_from_message(message) == generation
    status = PlatformStatus(True, 3, 2, True, 17.5, 60.0, "1.2", {"lag": {"0": [1, 2.5, None, "x"]}})
    message = through_bytes(documents.platform_status_to_message(status))
    assert documents.platform_status_from_message(message) == status


def test_migration_status_round_trips_whole_and_repeats_the_main_fields() -> None:
    platform = FakePlatform()
    status = platform.start_migration("toy", who="ann")
    platform.set_weight("", "ads", 0.5, who="ann")
    message = through_bytes(documents.migration_status_to_message(status, platform.events))
    assert documents.migration_status_from_message(message) == status
    assert (message.phase, message.coverage, message.consumers[0].consumer) == ("dual_write", 0.625, "ads")
    assert json.loads(message.consumers[0].gates[0].evidence_json) == {"n": 500}
    assert not message.HasField("eta_seconds")
    assert message.window_left_seconds == 600.0
    events = documents.events_from_message(message)
    assert [(event.number, event.what, event.migration) for event in events] == [
        (1, "start", "m1"),
        (2, "weight", "m1"),
    ]
    assert events[0].evidence == {"value": None, "n": 3}  # NaN has no JSON; NumPy numbers are numbers


def test_json_takes_what_documents_hold() -> None:
    value = {"a": np.float32(0.5), "b": np.arange(3), "c": float("inf"), "d": {1: (1, 2)}, "e": object}
    found = json.loads(documents.json_of(value))
    assert found == {"a": 0.5, "b": [0, 1, 2], "c": None, "d": {"1": [1, 2]}, "e": str(object)}


@pytest.mark.parametrize(
    ("text", "expected"), [("{", "no JSON"), ("[1]", "holds a list"), ('{"a":', "no JSON")]
)
def test_text_that_is_no_object_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        documents.json_object(text, "plan_json")


def test_an_invalid_document_is_refused_in_one_line_that_names_the_fields() -> None:
    bad = json.dumps({"name": "Search!", "k": 0, "quality_target": 0.5, "colour": 1})
    with pytest.raises(InvalidArgument) as caught:
        documents.document_from_json(Consumer, bad, "consumer_json")
    message = caught.value.message
    assert "\n" not in message
    assert all(name in message for name in ("consumer_json", "name:", "k:", "colour:"))


def test_comparison_repeats_both_sides_without_their_documents() -> None:
    document = FakePlatform().compare("search", 1, 2)
    message = through_bytes(documents.comparison_to_message(document))
    assert (message.source.generation, message.target.value) == (1, 0.92)
    assert (message.difference, message.p_value) == (0.02, 0.001)
    assert message.source.document_json == ""
    assert json.loads(message.document_json) == document


TOTALS = {
    "impressions": 1000.0,
    "clicks": 31.0,
    "depth": 12.5,
    "depth_squared": 99.75,
    "compared": 40.0,
    "agreed": 39.0,
}


def test_engagement_totals_round_trip() -> None:
    message = documents.totals_to_message(TOTALS, engagement_pb2.ReportEngagementRequest())
    assert documents.totals_from_message(through_bytes(message)) == TOTALS


@pytest.mark.parametrize(
    "totals", [{"clicks": -1}, {"clicks": 0.5}, {"depth": float("nan")}, {"depth": -1.0}, {"likes": 3}]
)
def test_impossible_totals_are_refused(totals: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument, match="engagement"):
        documents.totals_to_message(totals, engagement_pb2.ReportEngagementRequest())
