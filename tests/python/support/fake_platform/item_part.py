"""Items and queries: brute force over one toy vector an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from embedcore.errors import InvalidArgument, NotFound
from embedcore.types import (
    Fingerprint,
    Hit,
    Item,
    Provenance,
    SearchAnswer,
    SearchRequest,
    StoredItem,
    Vectors,
    WriteReceipt,
)
from support.fake_platform.core import DIGEST, DIMENSION, NOW, TOY, FakeCore, toy_vector


class ItemPart(FakeCore):
    def __init__(self) -> None:
        super().__init__()
        self.vectors: dict[tuple[str, str], np.ndarray] = {}
        self.searched: list[SearchRequest] = []

    def _check_vectors(self, vectors: Mapping[str, np.ndarray]) -> None:
        for digest, vector in vectors.items():
            if digest != DIGEST:
                raise InvalidArgument(f"fingerprint {digest} is of no live generation: send {DIGEST}")
            if vector.shape != (DIMENSION,):
                raise InvalidArgument(f"the vector has dimension {len(vector)}, {digest} has {DIMENSION}")

    def upsert(self, items: Sequence[Item]) -> WriteReceipt:
        self._enter("upsert")
        for item in items:
            self._check_vectors(item.vectors)
        with self.lock:
            for item in items:
                key = (item.namespace, item.id)
                old = self.items.get(key)
                version = 1 if old is None else old.version + 1
                self.sequence += 1
                self.items[key] = StoredItem(
                    id=item.id,
                    namespace=item.namespace,
                    item=len(self.items) if old is None else old.item,
                    shard=0,
                    version=version,
                    created_at=item.created_at if item.created_at is not None else NOW,
                    updated_at=NOW + self.sequence,
                    content=item.content,
                    attributes=dict(item.attributes),
                    deleted=False,
                    held={1: version},
                )
                self.vectors[key] = item.vectors.get(DIGEST, toy_vector(item.content or ""))
            versions = [self.items[item.namespace, item.id].version for item in items]
            return WriteReceipt(token={0: self.sequence}, versions=versions)

    def delete(self, ids: Sequence[str], namespace: str = "") -> WriteReceipt:
        self._enter("delete")
        with self.lock:
            gone = [self.items.pop((namespace, one), None) for one in ids]
            self.sequence += 1
            return WriteReceipt({0: self.sequence}, [0 if one is None else one.version + 1 for one in gone])

    def get_item(self, item_id: str, namespace: str = "") -> StoredItem:
        self._enter("get_item")
        found = self.items.get((namespace, item_id))
        if found is None:
            raise NotFound(f"no item {item_id!r} in namespace {namespace!r}")
        return found

    def search(self, request: SearchRequest) -> SearchAnswer:
        self._enter("search")
        self.searched.append(request)
        consumer = self.known.get(request.consumer)
        if consumer is None:
            raise NotFound(f"no consumer {request.consumer!r}: known are {', '.join(self.known)}")
        self._check_vectors(request.vectors)
        query = request.vectors.get(DIGEST, toy_vector(request.text or ""))
        scored = [
            Hit(item.id, float(np.float32(query @ self.vectors[key])), item.namespace)
            for key, item in self.items.items()
            if item.namespace == request.namespace
            and all(item.attributes.get(name) == value for name, value in request.filter.items())
        ]
        scored.sort(key=lambda hit: -hit.score)
        said = Provenance(
            generations=(1,),
            models=("toy",),
            fingerprints=(DIGEST,),
            weight=0.0,
            arm="canary" if request.user_key == "canary" else "control",
            table_version=7,
            shards_asked=1,
            shards_answered=1,
            partial=False,
        )
        return SearchAnswer(tuple(scored[: request.k or consumer.k]), said, took_ms=0.25)

    def search_batch(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        self._enter("search_batch")
        return [self.search(request) for request in requests]

    def embed(self, model: str, texts: Sequence[str]) -> tuple[Fingerprint, Vectors]:
        self._enter("embed")
        if model not in self.registered:
            raise NotFound(f"no model {model!r}: known are {', '.join(self.registered)}")
        vectors = [toy_vector(text) for text in texts]
        return TOY.fingerprint, np.array(vectors, dtype=np.float32).reshape(len(texts), DIMENSION)
