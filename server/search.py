"""SearchService: the hot path. Nothing here logs, imports or validates a document per call."""
# ruff: noqa: N802 - gRPC names its methods so

from __future__ import annotations

from collections.abc import Iterator

import grpc

from embedcore.server.handlers import Service, seconds_left, stream, unary
from embedcore.server.limits import check_count, check_search
from embedcore.v1 import search_pb2, search_pb2_grpc
from embedcore.wire import answer_to_message, search_request_from_message


class SearchService(Service, search_pb2_grpc.SearchServiceServicer):
    @unary
    def Search(
        self, request: search_pb2.SearchRequest, context: grpc.ServicerContext
    ) -> search_pb2.SearchResponse:
        check_search(request)
        answer = self.platform.search(search_request_from_message(request, seconds_left(context)))
        return answer_to_message(answer, request.request_id)

    @unary
    def BatchSearch(
        self, request: search_pb2.BatchSearchRequest, context: grpc.ServicerContext
    ) -> search_pb2.BatchSearchResponse:
        check_count(len(request.requests), "queries")
        for one in request.requests:
            check_search(one)
        left = seconds_left(context)
        answers = self.platform.search_batch(
            [search_request_from_message(one, left) for one in request.requests]
        )
        return search_pb2.BatchSearchResponse(
            responses=[
                answer_to_message(answer, one.request_id)
                for answer, one in zip(answers, request.requests, strict=True)
            ]
        )

    @stream
    def SearchStream(
        self, request_iterator: Iterator[search_pb2.SearchRequest], context: grpc.ServicerContext
    ) -> Iterator[search_pb2.SearchResponse]:
        for request in request_iterator:
            check_search(request)
            answer = self.platform.search(search_request_from_message(request, seconds_left(context)))
            yield answer_to_message(answer, request.request_id)
