"""Items and queries."""

from __future__ import annotations

from collections.abc import Sequence

from embedcore.errors import InvalidArgument, NotFound
from embedcore.platform.core import PlatformCore
from embedcore.types import (
    Fingerprint,
    Item,
    SearchAnswer,
    SearchRequest,
    StoredItem,
    Vectors,
    WriteReceipt,
)


class ItemPart(PlatformCore):
    """See :class:`embedcore.api.PlatformApi`."""

    def upsert(self, items: Sequence[Item]) -> WriteReceipt:
        return self._writer.upsert(items)

    def delete(self, ids: Sequence[str], namespace: str = "") -> WriteReceipt:
        if any(not item_id for item_id in ids):
            raise InvalidArgument("an id to delete is empty")
        return self.store.delete_items(ids, namespace)

    def get_item(self, item_id: str, namespace: str = "") -> StoredItem:
        item = self.store.get_item(item_id, namespace)
        if item is None or item.deleted:
            raise NotFound(f"no item {item_id!r} in namespace {namespace!r}")
        return item

    def search(self, request: SearchRequest) -> SearchAnswer:
        return self._queries.search(request)

    def search_batch(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        return self._queries.search_batch(requests)

    def embed(self, model: str, texts: Sequence[str]) -> tuple[Fingerprint, Vectors]:
        encoder = self.encoders.get(model)
        return encoder.fingerprint, self.encoders.encode_queries(model, texts)
