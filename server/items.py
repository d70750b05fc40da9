"""ItemService and EmbedService: writes, single items, text to vectors."""
# ruff: noqa: N802 - gRPC names its methods so

from __future__ import annotations

from collections.abc import Iterator

import grpc

from embedcore.errors import InvalidArgument
from embedcore.server.handlers import Service, stream, unary
from embedcore.server.limits import check_count, check_id, check_items, check_name, check_text
from embedcore.v1 import common_pb2, embed_pb2, embed_pb2_grpc, items_pb2, items_pb2_grpc
from embedcore.wire import (
    item_from_message,
    receipt_to_message,
    stored_item_to_message,
)
from embedcore.wire_vectors import fingerprint_to_message, vector_to_message


class ItemService(Service, items_pb2_grpc.ItemServiceServicer):
    @unary
    def UpsertItems(
        self, request: items_pb2.UpsertItemsRequest, context: grpc.ServicerContext
    ) -> items_pb2.WriteResponse:
        return self._upsert(request)

    @unary
    def DeleteItems(
        self, request: items_pb2.DeleteItemsRequest, context: grpc.ServicerContext
    ) -> items_pb2.WriteResponse:
        check_count(len(request.ids), "ids")
        check_name(request.namespace, "namespace")
        for item_id in request.ids:
            check_id(item_id)
        return receipt_to_message(self.platform.delete(list(request.ids), request.namespace))

    @unary
    def GetItem(
        self, request: items_pb2.GetItemRequest, context: grpc.ServicerContext
    ) -> common_pb2.StoredItem:
        check_id(request.id)
        check_name(request.namespace, "namespace")
        return stored_item_to_message(self.platform.get_item(request.id, request.namespace))

    @stream
    def IngestStream(
        self, request_iterator: Iterator[items_pb2.UpsertItemsRequest], context: grpc.ServicerContext
    ) -> Iterator[items_pb2.WriteResponse]:
        for request in request_iterator:
            yield self._upsert(request)

    def _upsert(self, request: items_pb2.UpsertItemsRequest) -> items_pb2.WriteResponse:
        check_items(request.items)
        return receipt_to_message(self.platform.upsert([item_from_message(item) for item in request.items]))


class EmbedService(Service, embed_pb2_grpc.EmbedServiceServicer):
    @unary
    def Embed(
        self, request: embed_pb2.EmbedRequest, context: grpc.ServicerContext
    ) -> embed_pb2.EmbedResponse:
        if not request.model:
            raise InvalidArgument("no model named: name one, as ListModels shows them")
        check_count(len(request.texts), "texts")
        for place, text in enumerate(request.texts):
            check_text(text, f"text {place}")
        fingerprint, vectors = self.platform.embed(request.model, list(request.texts))
        digest = fingerprint.digest
        return embed_pb2.EmbedResponse(
            fingerprint=fingerprint_to_message(fingerprint),
            vectors=[vector_to_message(digest, vector) for vector in vectors],
        )
