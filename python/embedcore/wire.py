"""Conversions between embedcore.types and the messages of embedcore.v1: items, queries, answers.

Server and clients share them, so there is one translation. ``*_to_message`` and ``*_from_message`` are
inverse to each other, except for what has no meaning on the other side: a deadline travels as the call's
own, and an empty query text is no text. Bad input is InvalidArgument. All functions are pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from embedcore.errors import InvalidArgument
from embedcore.types import (
    Attributes,
    AttributeValue,
    Hit,
    Item,
    Provenance,
    SearchAnswer,
    SearchRequest,
    SequenceToken,
    StoredItem,
    WriteReceipt,
)
from embedcore.v1 import common_pb2, items_pb2, search_pb2
from embedcore.wire_vectors import FLOAT32, vector_to_message, vectors_from_messages

_INT64 = range(-(2**63), 2**63)
_CONTROL = common_pb2.ARM_CONTROL
_CANARY = common_pb2.ARM_CANARY


# Attributes and tokens.


def attribute_to_message(name: str, value: AttributeValue) -> common_pb2.AttributeValue:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):  # before int, of which it is a subclass
        return common_pb2.AttributeValue(bool_value=value)
    if isinstance(value, int):
        if value not in _INT64:
            raise InvalidArgument(f"attribute {name!r} is {value}, beyond 64 bits: send it as text")
        return common_pb2.AttributeValue(int_value=value)
    if isinstance(value, float):
        return common_pb2.AttributeValue(double_value=value)
    if isinstance(value, str):
        return common_pb2.AttributeValue(string_value=value)
    raise InvalidArgument(
        f"attribute {name!r} is a {type(value).__name__}: attributes are text, integers, floats or booleans"
    )


def attributes_to_messages(attributes: Attributes) -> dict[str, common_pb2.AttributeValue]:
    return {name: attribute_to_message(name, value) for name, value in attributes.items()}


def attributes_from_messages(
    messages: Mapping[str, common_pb2.AttributeValue],
) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {}
    for name, message in messages.items():
        kind = message.WhichOneof("kind")
        if kind is None:
            raise InvalidArgument(f"attribute {name!r} has no value: set one of the kinds")
        value = getattr(message, kind)
        if kind == "double_value" and not math.isfinite(value):
            raise InvalidArgument(f"attribute {name!r} is {value}: send a finite number")
        found[name] = value
    return found


def token_to_message(token: SequenceToken) -> common_pb2.SequenceToken:
    return common_pb2.SequenceToken(shards=token)


def token_from_message(message: common_pb2.SequenceToken) -> dict[int, int]:
    return dict(message.shards)


# Items and writes.


def item_to_message(item: Item, dtype: common_pb2.DType.ValueType = FLOAT32) -> common_pb2.Item:
    return common_pb2.Item(
        id=item.id,
        namespace=item.namespace,
        content=item.content,
        vectors=[vector_to_message(digest, vector, dtype) for digest, vector in item.vectors.items()],
        attributes=attributes_to_messages(item.attributes),
        created_at=item.created_at,
    )


def item_from_message(message: common_pb2.Item) -> Item:
    return Item(
        id=message.id,
        namespace=message.namespace,
        content=message.content if message.HasField("content") else None,
        vectors=vectors_from_messages(message.vectors),
        attributes=attributes_from_messages(message.attributes),
        created_at=message.created_at if message.HasField("created_at") else None,
    )


def stored_item_to_message(stored: StoredItem) -> common_pb2.StoredItem:
    return common_pb2.StoredItem(
        item=common_pb2.Item(
            id=stored.id,
            namespace=stored.namespace,
            content=stored.content,
            attributes=attributes_to_messages(stored.attributes),
            created_at=stored.created_at,
        ),
        number=stored.item,
        version=stored.version,
        updated_at=stored.updated_at,
        shard=stored.shard,
        held=stored.held,
        deleted=stored.deleted,
    )


def stored_item_from_message(message: common_pb2.StoredItem) -> StoredItem:
    item = message.item
    return StoredItem(
        id=item.id,
        namespace=item.namespace,
        item=message.number,
        shard=message.shard,
        version=message.version,
        created_at=item.created_at,
        updated_at=message.updated_at,
        content=item.content if item.HasField("content") else None,
        attributes=attributes_from_messages(item.attributes),
        deleted=message.deleted,
        held=dict(message.held),
    )


def receipt_to_message(receipt: WriteReceipt) -> items_pb2.WriteResponse:
    return items_pb2.WriteResponse(
        token=token_to_message(receipt.token), versions=receipt.versions, repairs=receipt.repairs
    )


def receipt_from_message(message: items_pb2.WriteResponse) -> WriteReceipt:
    return WriteReceipt(
        token=token_from_message(message.token),
        versions=tuple(message.versions),
        repairs=message.repairs,
    )


# Queries and answers: the hot path.


def search_request_to_message(
    request: SearchRequest, dtype: common_pb2.DType.ValueType = FLOAT32
) -> search_pb2.SearchRequest:
    if request.k is not None and not 1 <= request.k < 2**32:
        raise InvalidArgument(f"k must be at least 1, got {request.k}")
    message = search_pb2.SearchRequest(
        consumer=request.consumer,
        text=request.text or "",
        vectors=[vector_to_message(digest, vector, dtype) for digest, vector in request.vectors.items()],
        k=request.k,
        namespace=request.namespace,
        user_key=request.user_key,
    )
    if request.filter:
        for name, value in request.filter.items():
            message.filter[name].CopyFrom(attribute_to_message(name, value))
    if request.min_sequence:
        message.min_sequence.shards.update(request.min_sequence)
    return message


def search_request_from_message(
    message: search_pb2.SearchRequest, deadline_s: float | None = None
) -> SearchRequest:
    """``deadline_s``: seconds that the call has left."""
    return SearchRequest(
        consumer=message.consumer,
        text=message.text or None,
        vectors=vectors_from_messages(message.vectors),
        k=message.k if message.HasField("k") else None,
        namespace=message.namespace,
        filter=attributes_from_messages(message.filter) if message.filter else {},
        min_sequence=token_from_message(message.min_sequence) if message.HasField("min_sequence") else {},
        user_key=message.user_key,
        deadline_s=deadline_s,
    )


def answer_to_message(answer: SearchAnswer, request_id: str = "") -> search_pb2.SearchResponse:
    said = answer.provenance
    message = search_pb2.SearchResponse(
        provenance=common_pb2.Provenance(
            generations=said.generations,
            models=said.models,
            fingerprints=said.fingerprints,
            weight=said.weight,
            arm=_CANARY if said.arm == "canary" else _CONTROL,
            table_version=said.table_version,
            shards_asked=said.shards_asked,
            shards_answered=said.shards_answered,
            partial=said.partial,
        ),
        took_ms=answer.took_ms,
        request_id=request_id,
    )
    add = message.hits.add  # in place: a list of hits would be copied, at a microsecond each
    for hit in answer.hits:
        add(id=hit.id, score=hit.score, namespace=hit.namespace)
    return message


def answer_from_message(message: search_pb2.SearchResponse) -> SearchAnswer:
    said = message.provenance
    return SearchAnswer(
        hits=tuple(Hit(hit.id, hit.score, hit.namespace) for hit in message.hits),
        provenance=Provenance(
            generations=tuple(said.generations),
            models=tuple(said.models),
            fingerprints=tuple(said.fingerprints),
            weight=said.weight,
            arm="canary" if said.arm == _CANARY else "control",
            table_version=said.table_version,
            shards_asked=said.shards_asked,
            shards_answered=said.shards_answered,
            partial=said.partial,
        ),
        took_ms=message.took_ms,
    )
