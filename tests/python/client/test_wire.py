"""Round trips of wire.py and wire_vectors.py: what goes in comes out equal; bad input is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embedcore import wire, wire_vectors
from embedcore.errors import InvalidArgument
from embedcore.types import (
    Fingerprint,
    Hit,
    Item,
    Provenance,
    SearchAnswer,
    SearchRequest,
    StoredItem,
    WriteReceipt,
)
from embedcore.v1 import common_pb2, items_pb2, search_pb2

repeatable = settings(derandomize=True, deadline=None, max_examples=60)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
floats = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**32 - 1)
longs = st.integers(0, 2**63 - 1)
vectors = hnp.arrays(np.float32, st.integers(1, 40), elements=floats32)
spaces = st.dictionaries(st.sampled_from([f"ec1-{digit * 32}" for digit in "0a9f"]), vectors, max_size=3)
attributes = st.dictionaries(
    texts, st.one_of(texts, st.integers(-(2**63), 2**63 - 1), floats, st.booleans()), max_size=5
)
tokens = st.dictionaries(counts, longs, max_size=4)

items = st.builds(
    Item,
    id=texts,
    content=st.none() | texts,
    vectors=spaces,
    attributes=attributes,
    namespace=texts,
    created_at=st.none() | floats,
)
stored_items = st.builds(
    StoredItem,
    id=texts,
    namespace=texts,
    item=longs,
    shard=counts,
    version=longs,
    created_at=floats,
    updated_at=floats,
    content=st.none() | texts,
    attributes=attributes,
    deleted=st.booleans(),
    held=tokens,
)
requests = st.builds(
    SearchRequest,
    consumer=texts,
    text=st.none() | names,
    vectors=spaces,
    k=st.none() | st.integers(1, 2**32 - 1),
    namespace=texts,
    filter=attributes,
    min_sequence=tokens,
    user_key=texts,
    deadline_s=st.none() | st.floats(0, 100),
)
provenances = st.builds(
    Provenance,
    generations=st.lists(counts, max_size=2).map(tuple),
    models=st.lists(texts, max_size=2).map(tuple),
    fingerprints=st.lists(texts, max_size=2).map(tuple),
    weight=floats,
    arm=st.sampled_from(["control", "canary"]),
    table_version=longs,
    shards_asked=counts,
    shards_answered=counts,
    partial=st.booleans(),
)
answers = st.builds(
    SearchAnswer,
    hits=st.lists(st.builds(Hit, texts, floats32, texts), max_size=5).map(tuple),
    provenance=provenances,
    took_ms=floats,
)


def plain(value: Any) -> Any:
    """Comparable with ==, and stricter: types count, so that True is not 1 and 1 is not 1.0."""
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in value]
    return (type(value), value)


def through_bytes(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


@repeatable
@given(items)
def test_items_round_trip(item: Item) -> None:
    assert plain(wire.item_from_message(through_bytes(wire.item_to_message(item)))) == plain(item)


@repeatable
@given(stored_items)
def test_stored_items_round_trip(stored: StoredItem) -> None:
    back = wire.stored_item_from_message(through_bytes(wire.stored_item_to_message(stored)))
    assert plain(back) == plain(stored)


@repeatable
@given(requests)
def test_search_requests_round_trip(request: SearchRequest) -> None:
    message = through_bytes(wire.search_request_to_message(request))
    assert plain(wire.search_request_from_message(message, request.deadline_s)) == plain(request)


@repeatable
@given(answers, texts)
def test_answers_round_trip(answer: SearchAnswer, request_id: str) -> None:
    message = through_bytes(wire.answer_to_message(answer, request_id))
    assert message.request_id == request_id
    assert plain(wire.answer_from_message(message)) == plain(answer)


@repeatable
@given(st.builds(WriteReceipt, tokens, st.lists(longs, max_size=4).map(tuple), counts))
def test_receipts_round_trip(receipt: WriteReceipt) -> None:
    message: items_pb2.WriteResponse = through_bytes(wire.receipt_to_message(receipt))
    assert plain(wire.receipt_from_message(message)) == plain(receipt)


@repeatable
@given(names, names, st.integers(1, 65_535), st.sampled_from(["cosine", "ip", "l2"]), texts)
def test_fingerprints_round_trip(model: str, revision: str, dimension: int, metric: Any, hash_: str) -> None:
    fingerprint = Fingerprint(
        model=model, revision=revision, dimension=dimension, metric=metric, tokenizer_hash=hash_
    )
    message = through_bytes(wire_vectors.fingerprint_to_message(fingerprint))
    assert wire_vectors.fingerprint_from_message(message) == fingerprint
    message.dimension += 1 if dimension < 65_535 else -1
    with pytest.raises(InvalidArgument, match="does not match its fields"):
        wire_vectors.fingerprint_from_message(message)


@repeatable
@given(
    hnp.arrays(np.float16, st.integers(1, 40), elements=st.floats(width=16, allow_nan=False, max_value=6e4))
)
def test_half_precision_is_kept_exactly(values: np.ndarray) -> None:
    values = np.where(np.isfinite(values), values, np.float16(0))
    message = wire_vectors.vector_to_message("ec1-x", values, wire_vectors.FLOAT16)
    assert len(message.data) == 2 * len(values)
    _, back = wire_vectors.vector_from_message(message)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, values.astype(np.float32))


def test_bytes_are_little_endian_float32() -> None:
    message = wire_vectors.vector_to_message("ec1-x", np.array([1.0, -2.0]))  # float64, converted
    assert message.data == bytes.fromhex("0000803f000000c0")


def test_packed_floats_are_read_as_well() -> None:
    message = common_pb2.Vector(fingerprint="ec1-x", values=[1.5, -2.0])
    assert wire_vectors.vector_from_message(message)[1].tolist() == [1.5, -2.0]


def test_strided_input_is_sent_in_order() -> None:
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert wire_vectors.vector_from_message(wire_vectors.vector_to_message("ec1-x", matrix[:, 1]))[
        1
    ].tolist() == [1, 5, 9]


def test_large_finite_values_pass() -> None:
    values = np.array([3e38, -3e38, 3e38], dtype=np.float32)
    assert (
        wire_vectors.vector_from_message(wire_vectors.vector_to_message("ec1-x", values))[1].tolist()
        == values.tolist()
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("packed", [False, True])
def test_non_finite_values_are_refused_both_ways(bad: float, packed: bool) -> None:
    values = np.array([1.0, bad, 2.0], dtype=np.float32)
    with pytest.raises(InvalidArgument, match="position 1"):
        wire_vectors.vector_to_message("ec1-x", values)
    message = common_pb2.Vector(fingerprint="ec1-x")
    if packed:
        message.values.extend(values.tolist())
    else:
        message.data = values.tobytes()
    with pytest.raises(InvalidArgument, match="position 1"):
        wire_vectors.vector_from_message(message)


def test_values_beyond_half_precision_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="finite"):
        wire_vectors.vector_to_message("ec1-x", np.array([1e6]), wire_vectors.FLOAT16)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (common_pb2.Vector(data=b"\0\0\0\0"), "no fingerprint"),
        (common_pb2.Vector(fingerprint="ec1-x"), "is empty"),
        (common_pb2.Vector(fingerprint="ec1-x", data=b"\0" * 7), "7 bytes, no multiple of 4"),
        (
            common_pb2.Vector(fingerprint="ec1-x", data=b"\0" * 3, dtype=wire_vectors.FLOAT16),
            "no multiple of 2",
        ),
        (common_pb2.Vector(fingerprint="ec1-x", data=b"\0" * 4, values=[1.0]), "data and values"),
        (common_pb2.Vector(fingerprint="ec1-x", data=b"\0" * 4, dtype=9), "dtype 9"),  # type: ignore[arg-type]
    ],
)
def test_malformed_vectors_are_refused(message: common_pb2.Vector, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        wire_vectors.vector_from_message(message)


def test_one_vector_for_each_space() -> None:
    twice = [wire_vectors.vector_to_message("ec1-x", [1.0]), wire_vectors.vector_to_message("ec1-x", [2.0])]
    with pytest.raises(InvalidArgument, match="same fingerprint"):
        wire.search_request_from_message(search_pb2.SearchRequest(consumer="search", vectors=twice))


@pytest.mark.parametrize("shape", [(), (0,), (2, 2)])
def test_only_one_dimension_is_a_vector(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="shape"):
        wire_vectors.vector_to_message("ec1-x", np.ones(shape, dtype=np.float32))


@pytest.mark.parametrize(
    ("value", "expected"), [(2**63, "beyond 64 bits"), (None, "NoneType"), ([1], "list"), (b"x", "bytes")]
)
def test_attributes_that_have_no_message_are_refused(value: Any, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        wire.attribute_to_message("price", value)


def test_numpy_scalars_are_attributes() -> None:
    found = wire.attributes_from_messages(
        wire.attributes_to_messages({"a": np.int32(3), "b": np.bool_(True), "c": np.float32(0.5)})  # type: ignore[dict-item]
    )
    assert plain(found) == plain({"a": 3, "b": True, "c": 0.5})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (common_pb2.AttributeValue(), "has no value"),
        (common_pb2.AttributeValue(double_value=float("nan")), "finite"),
    ],
)
def test_empty_and_nan_attributes_are_refused(message: common_pb2.AttributeValue, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=expected):
        wire.attributes_from_messages({"price": message})


@pytest.mark.parametrize("k", [0, -1, 2**32])
def test_k_out_of_range_is_refused_before_it_is_sent(k: int) -> None:
    with pytest.raises(InvalidArgument, match="k must be"):
        wire.search_request_to_message(SearchRequest("search", text="x", k=k))
