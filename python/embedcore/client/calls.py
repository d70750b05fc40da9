"""What each unary data call sends and how its answer is read: searches, items, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

import numpy as np

from embedcore.client import methods
from embedcore.client.methods import Call
from embedcore.errors import EmbedcoreError, InvalidArgument
from embedcore.types import (
    Fingerprint,
    Item,
    SearchAnswer,
    SearchRequest,
    StoredItem,
    Vectors,
    WriteReceipt,
)
from embedcore.v1 import embed_pb2, items_pb2, search_pb2
from embedcore.wire import (
    answer_from_message,
    item_to_message,
    receipt_from_message,
    search_request_to_message,
    stored_item_from_message,
)
from embedcore.wire_vectors import fingerprint_from_message, vector_from_message

Parameters = ParamSpec("Parameters")
Built = TypeVar("Built")


def refusing(build: Callable[Parameters, Built]) -> Callable[Parameters, Built]:
    """What no message can carry (a wrong type, a number out of range, broken text) is InvalidArgument."""

    def built(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Built:
        try:
            return build(*args, **kwargs)
        except EmbedcoreError:
            raise
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"the request cannot be sent: {error}") from error

    return built


@refusing
def search(request: SearchRequest) -> Call[SearchAnswer]:
    return Call(methods.SEARCH, search_request_to_message(request), answer_from_message, request.deadline_s)


@refusing
def search_batch(requests: Sequence[SearchRequest], timeout: float | None = None) -> Call[list[SearchAnswer]]:
    """Without a timeout the tightest deadline of the requests holds for all."""
    deadlines = [request.deadline_s for request in requests if request.deadline_s is not None]
    message = search_pb2.BatchSearchRequest(
        requests=[search_request_to_message(request) for request in requests]
    )
    if timeout is None and deadlines:
        timeout = min(deadlines)
    return Call(methods.BATCH_SEARCH, message, _answers, timeout)


def _answers(message: search_pb2.BatchSearchResponse) -> list[SearchAnswer]:
    return [answer_from_message(response) for response in message.responses]


@refusing
def batch_message(items: Sequence[Item]) -> items_pb2.UpsertItemsRequest:
    return items_pb2.UpsertItemsRequest(items=[item_to_message(item) for item in items])


def upsert(items: Sequence[Item], timeout: float | None = None) -> Call[WriteReceipt]:
    return Call(methods.UPSERT_ITEMS, batch_message(items), receipt_from_message, timeout)


@refusing
def delete(ids: Sequence[str], namespace: str = "", timeout: float | None = None) -> Call[WriteReceipt]:
    if isinstance(ids, str):
        raise InvalidArgument(f"ids is the text {ids!r}: give a list of ids")
    message = items_pb2.DeleteItemsRequest(ids=ids, namespace=namespace)
    return Call(methods.DELETE_ITEMS, message, receipt_from_message, timeout)


@refusing
def get_item(item_id: str, namespace: str = "") -> Call[StoredItem]:
    message = items_pb2.GetItemRequest(id=item_id, namespace=namespace)
    return Call(methods.GET_ITEM, message, stored_item_from_message)


@refusing
def embed(
    model: str, texts: Sequence[str], timeout: float | None = None
) -> Call[tuple[Fingerprint, Vectors]]:
    if isinstance(texts, str):
        raise InvalidArgument("texts is one text: give a list of texts")
    return Call(methods.EMBED, embed_pb2.EmbedRequest(model=model, texts=texts), _embedded, timeout)


def _embedded(message: embed_pb2.EmbedResponse) -> tuple[Fingerprint, Vectors]:
    fingerprint = fingerprint_from_message(message.fingerprint)
    vectors = np.empty((len(message.vectors), fingerprint.dimension), dtype=np.float32)
    for row, vector in enumerate(message.vectors):
        vectors[row] = vector_from_message(vector)[1]
    return fingerprint, vectors


def query(
    consumer: str,
    text: str | None = None,
    *,
    vectors: Mapping[str, Vectors] | None = None,
    k: int | None = None,
    namespace: str = "",
    filter: Mapping[str, str | int | float | bool] | None = None,  # noqa: A002 - the name in API.md
    min_sequence: Mapping[int, int] | None = None,
    user_key: str = "",
    timeout: float | None = None,
) -> SearchRequest:
    """The request of a client's ``search``: what is left out takes the server's default."""
    return SearchRequest(
        consumer=consumer,
        text=text,
        vectors=vectors or {},
        k=k,
        namespace=namespace,
        filter=filter or {},
        min_sequence=min_sequence or {},
        user_key=user_key,
        deadline_s=timeout,
    )
