"""What is refused at the edge, before the platform sees it: sizes, and what is missing altogether."""

from __future__ import annotations

from collections.abc import Sequence

from embedcore.errors import InvalidArgument
from embedcore.v1 import common_pb2, search_pb2

MAX_MESSAGE_BYTES = 64 << 20  # above every limit below, so that their refusals are what the caller sees
MAX_TEXT_BYTES = 1 << 20
MAX_ID_BYTES = 512
MAX_ITEMS = 10_000  # items, queries or texts of one call
MAX_K = 10_000


def _size(text: str, limit: int) -> int:
    """UTF-8 bytes; for a text that is short anyway, characters, which are cheaper to count."""
    return len(text) if len(text) * 4 <= limit else len(text.encode())


def check_text(text: str, what: str) -> None:
    size = _size(text, MAX_TEXT_BYTES)
    if size > MAX_TEXT_BYTES:
        raise InvalidArgument(
            f"{what} has {size:,} bytes of text, the limit is {MAX_TEXT_BYTES:,} (1 MiB): shorten or split it"
        )


def check_count(count: int, what: str) -> None:
    if count > MAX_ITEMS:
        raise InvalidArgument(f"{count:,} {what} in one call, the limit is {MAX_ITEMS:,}: send several calls")


def check_name(text: str, what: str) -> None:
    """Names that are stored or compared whole: ids, namespaces, user keys."""
    size = _size(text, MAX_ID_BYTES)
    if size > MAX_ID_BYTES:
        raise InvalidArgument(f"{what} {text[:32]!r}... has {size:,} bytes, the limit is {MAX_ID_BYTES}")


def check_id(text: str) -> None:
    if not text:
        raise InvalidArgument("an item id is empty: every item has one, of 1 to 512 bytes")
    check_name(text, "item id")


def check_items(items: Sequence[common_pb2.Item]) -> None:
    check_count(len(items), "items")
    for item in items:
        check_id(item.id)
        check_name(item.namespace, "namespace")
        check_text(item.content, f"item {item.id!r}")


def check_search(request: search_pb2.SearchRequest) -> None:
    if not request.consumer:
        raise InvalidArgument("a search names no consumer: name one, as ListConsumers shows them")
    if request.HasField("k") and not 1 <= request.k <= MAX_K:
        if not request.k:
            raise InvalidArgument("k must be at least 1, got 0: leave k out for the consumer's own")
        raise InvalidArgument(f"k is {request.k:,}, the limit is {MAX_K:,}")
    text = request.text
    if text:
        check_text(text, "the query")
    elif not request.vectors:
        raise InvalidArgument("a search has neither text nor vectors: send one of them")
    check_name(request.namespace, "namespace")
    check_name(request.user_key, "user key")
