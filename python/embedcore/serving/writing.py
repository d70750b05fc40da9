"""Accepting writes: checked whole, encoded for every live generation, committed in one transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from embedcore.errors import EmbedcoreError, InvalidArgument
from embedcore.serving.encoding import MAX_TEXT_BYTES, check_vector
from embedcore.store.interface import ItemWrite, Store
from embedcore.types import Generation, Item, Vector, Vectors, WriteReceipt

MAX_ID_BYTES = 512
MAX_BATCH = 10_000


class BulkEncoders(Protocol):
    """The part of the encoder registry that writes need."""

    def encode_bulk(self, model: str, texts: Sequence[str]) -> Vectors: ...


class ItemWriter:
    """Thread-safe. Encoding happens outside the store's transaction; what a generation that went live in
    between lacks, the transaction records as a repair entry."""

    def __init__(self, store: Store, encoders: BulkEncoders) -> None:
        self._store = store
        self._encoders = encoders

    def upsert(self, items: Sequence[Item]) -> WriteReceipt:
        """All or none; InvalidArgument names the first bad item and nothing has changed."""
        if len(items) > MAX_BATCH:
            raise InvalidArgument(f"{len(items)} items in one call; the limit is {MAX_BATCH}: send batches")
        live = [g for g in self._store.generations() if g.live]
        if not live:
            raise InvalidArgument("there is no generation to write to: create one with a registered model")
        given = [self._check(position, item, live) for position, item in enumerate(items)]
        vectors: list[dict[int, Vector]] = [dict(row) for row in given]
        failures: list[dict[int, str]] = [{} for _ in items]
        for generation in live:
            self._encode(generation, items, vectors, failures)
        for position, item in enumerate(items):
            if not vectors[position]:
                reasons = "; ".join(f"{g}: {why}" for g, why in failures[position].items())
                raise InvalidArgument(
                    f"item {position} ({item.id!r}): no live generation got a vector ({reasons}); send "
                    f"content that can be encoded, or vectors with their fingerprints"
                )
        return self._store.write_items(
            [
                ItemWrite(
                    id=item.id,
                    namespace=item.namespace,
                    content=item.content,
                    attributes=item.attributes,
                    created_at=item.created_at,
                    vectors=vectors[position],
                    failures=failures[position],
                )
                for position, item in enumerate(items)
            ]
        )

    def _encode(
        self,
        generation: Generation,
        items: Sequence[Item],
        vectors: list[dict[int, Vector]],
        failures: list[dict[int, str]],
    ) -> None:
        number = generation.number
        missing = [i for i in range(len(items)) if number not in vectors[i]]
        without = [i for i in missing if items[i].content is None]
        for i in without:
            failures[i][number] = f"no vector of {generation.model} given, and no content to encode"
        texts = {i: content for i in missing if (content := items[i].content) is not None}
        if not texts:
            return
        try:
            rows = self._encoders.encode_bulk(generation.model, list(texts.values()))
        except InvalidArgument:
            raise  # the text itself is at fault: the caller must hear it
        except EmbedcoreError as error:
            # The encoder is at fault: the write is accepted and this generation is repaired later.
            for i in texts:
                failures[i][number] = error.message
            return
        for i, row in zip(texts, rows, strict=True):
            vectors[i][number] = row

    def _check(self, position: int, item: Item, live: Sequence[Generation]) -> Mapping[int, Vector]:
        what = f"item {position} ({item.id[:64]!r})"
        if not item.id or len(item.id.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
            raise InvalidArgument(f"{what}: an id has 1 to {MAX_ID_BYTES} bytes")
        if "\x00" in item.id or "\x00" in item.namespace:
            raise InvalidArgument(f"{what}: ids and namespaces cannot hold NUL characters")
        if len(item.namespace.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES:
            raise InvalidArgument(f"{what}: a namespace has at most {MAX_ID_BYTES} bytes")
        if item.content is None and not item.vectors:
            raise InvalidArgument(f"{what}: needs content, or vectors with their fingerprints")
        if item.content is not None:
            try:
                size = len(item.content.encode())
            except UnicodeEncodeError:
                raise InvalidArgument(f"{what}: the content is not valid Unicode text") from None
            if size > MAX_TEXT_BYTES:
                raise InvalidArgument(f"{what}: the content has {size} bytes; the limit is {MAX_TEXT_BYTES}")
        if item.created_at is not None and not math.isfinite(item.created_at):
            raise InvalidArgument(f"{what}: created_at must be finite seconds since 1970")
        for name, value in item.attributes.items():
            if not isinstance(value, str | int | float | bool) or (
                isinstance(value, float) and not math.isfinite(value)
            ):
                raise InvalidArgument(f"{what}: attribute {name!r} must be a string, number or boolean")
        by_digest = {g.fingerprint.digest: g for g in live}
        vectors: dict[int, Vector] = {}
        for digest, vector in item.vectors.items():
            generation = by_digest.get(digest)
            if generation is None:
                raise InvalidArgument(
                    f"{what}: fingerprint {digest!r} is not one of the live generations': "
                    + ", ".join(f"{d} ({g.model})" for d, g in by_digest.items())
                )
            vectors[generation.number] = check_vector(vector, generation.fingerprint, what)
        return vectors
