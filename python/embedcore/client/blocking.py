"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from embedcore.client import calls, methods
from embedcore.client.shared import SharedCalls
from embedcore.types import Attributes, Item, SearchAnswer, SearchRequest, SequenceToken, Vector, WriteReceipt
from embedcore.wire import answer_from_message, receipt_from_message, search_request_to_message


class Client(SharedCalls):
    """A typed client of a running server. Safe to call from any thread.

    >>> with Client("127.0.0.1:7600") as client:                        # doctest: +SKIP
    ...     receipt = client.upsert([Item("a", content="a red bicycle")])
    ...     client.search("search", "bicycle", min_sequence=receipt.token).hits[0].id
    'a'

    Calls that only read, or that say the same when said twice, are retried by gRPC while the server is
    unavailable; writes are not. A failure is one of :mod:`embedcore.errors`, with the server's details.
    """

    def search(
        self,
        consumer: str,
        text: str | None = None,
        *,
        vectors: Mapping[str, Vector] | None = None,
        k: int | None = None,
        namespace: str = "",
        filter: Attributes | None = None,  # noqa: A002 - the name in API.md
        min_sequence: SequenceToken | None = None,
        user_key: str = "",
        timeout: float | None = None,
    ) -> SearchAnswer:
        """The nearest items for one query of a consumer.

        ``text``, or ``vectors``: float32 (dimension,) by fingerprint digest, one for each generation that
        the consumer is routed to. ``k``: at least 1; left out, the consumer's. ``filter``: attributes that
        must all be equal. ``min_sequence``: the token of a write that the answer must include.
        ``user_key``: decides who is in a canary. ``timeout``: seconds, the deadline of the whole query.
        """
        return self.run(
            calls.search(
                calls.query(
                    consumer,
                    text,
                    vectors=vectors,
                    k=k,
                    namespace=namespace,
                    filter=filter,
                    min_sequence=min_sequence,
                    user_key=user_key,
                    timeout=timeout,
                )
            )
        )

    def search_stream(self, requests: Iterable[SearchRequest]) -> Iterator[SearchAnswer]:
        """One answer per request, in order, over one stream; a failed request ends it with its error.

        Requests are read ahead of the answers, from another thread.
        """
        messages = (calls.refusing(search_request_to_message)(request) for request in requests)
        return self.exchange(methods.SEARCH_STREAM, messages, answer_from_message)

    def ingest(self, batches: Iterable[Sequence[Item]]) -> Iterator[WriteReceipt]:
        """Writes batches over one stream, each all or none, acknowledged by one receipt, in order.

        After a failure everything that has a receipt is written, and nothing else is to be relied on:
        the batch after the last receipt is not written, or it is and its receipt was lost.
        """
        messages = (calls.batch_message(batch) for batch in batches)
        return self.exchange(methods.INGEST_STREAM, messages, receipt_from_message)
