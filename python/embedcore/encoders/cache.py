"""A bounded cache of vectors by (vector space, text), and an encoder that asks it first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embedcore.encoders.interface import Encoder
from embedcore.encoders.wordpiece import check_texts
from embedcore.errors import InvalidArgument
from embedcore.types import Fingerprint, Vector, Vectors

# Of one entry beside its vector and its text: key tuple, array object, dictionary node.
_ENTRY_BYTES = 320


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start; ``bytes`` and ``entries`` are now. One text asked for is one hit or miss."""

    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int
    capacity_bytes: int


class VectorCache:
    """Least recently used entries leave first when ``capacity_bytes`` is reached. Thread safe.

    The key holds the fingerprint's digest: vectors of another revision are never found. An entry larger than
    the whole capacity is not kept, and a capacity of 0 keeps nothing.
    """

    def __init__(self, capacity_bytes: int) -> None:
        if capacity_bytes < 0:
            raise InvalidArgument(f"cache capacity must not be negative, got {capacity_bytes} bytes")
        self._capacity = capacity_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str], Vector] = OrderedDict()
        self._bytes = self._hits = self._misses = self._evictions = 0

    def get_many(self, digest: str, texts: Sequence[str]) -> list[Vector | None]:
        """The cached vectors (read-only) in the order of the texts, None where there is none."""
        with self._lock:
            return [self._get((digest, text)) for text in texts]

    def peek_many(self, digest: str, texts: Sequence[str]) -> list[Vector | None]:
        """As :meth:`get_many`, without counting and without making the entries recent."""
        with self._lock:
            return [self._entries.get((digest, text)) for text in texts]

    def put_many(self, digest: str, texts: Sequence[str], vectors: Vectors | Sequence[Vector]) -> None:
        """Keeps a copy of each row."""
        with self._lock:
            for text, row in zip(texts, vectors, strict=True):
                self._put((digest, text), row)

    def purge(self, digest: str) -> int:
        """Drops all entries of one vector space; how many they were."""
        with self._lock:
            keys = [key for key in self._entries if key[0] == digest]
            for key in keys:
                self._bytes -= _size(key, self._entries.pop(key))
            return len(keys)

    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(
                self._hits, self._misses, self._evictions, len(self._entries), self._bytes, self._capacity
            )

    def _get(self, key: tuple[str, str]) -> Vector | None:
        vector = self._entries.get(key)
        if vector is None:
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(key)
        return vector

    def _put(self, key: tuple[str, str], row: Vector) -> None:
        size = _size(key, row)
        if size > self._capacity:
            return
        old = self._entries.pop(key, None)
        if old is not None:
            self._bytes -= _size(key, old)
        kept = row.copy()  # a row alone: a view would keep its whole batch alive
        kept.flags.writeable = False
        self._entries[key] = kept
        self._bytes += size
        while self._bytes > self._capacity:
            evicted, vector = self._entries.popitem(last=False)
            self._bytes -= _size(evicted, vector)
            self._evictions += 1


class CachedEncoder:
    """Encodes only what the cache lacks, each distinct text once. Thread safe; two callers that miss the same
    text at once both encode it.

    ``beside``: another cache that is looked into before anything is encoded; what it has is copied. So a
    query that an evaluation has encoded costs nothing live, and neither kind of work evicts the other's.
    """

    def __init__(self, inner: Encoder, cache: VectorCache, beside: VectorCache | None = None) -> None:
        self._inner = inner
        self._cache = cache
        self._beside = beside
        self._fingerprint = inner.fingerprint
        self._digest = self._fingerprint.digest

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As the encoder inside. The array is the caller's own."""
        check_texts(texts)  # here, so that a refusal names the caller's row
        found = self._cache.get_many(self._digest, texts)
        missing = list(dict.fromkeys(t for t, vector in zip(texts, found, strict=True) if vector is None))
        fresh: dict[str, Vector] = {}
        if missing and self._beside is not None:
            there = self._beside.peek_many(self._digest, missing)
            fresh = {text: vector for text, vector in zip(missing, there, strict=True) if vector is not None}
        new = [text for text in missing if text not in fresh]
        if new:
            fresh.update(zip(new, self._inner.encode(new), strict=True))
        if fresh:
            self._cache.put_many(self._digest, list(fresh), list(fresh.values()))
        vectors = np.empty((len(texts), self._fingerprint.dimension), dtype=np.float32)
        for row, (text, vector) in enumerate(zip(texts, found, strict=True)):
            vectors[row] = fresh[text] if vector is None else vector
        return vectors


def _size(key: tuple[str, str], vector: Vector) -> int:
    return int(vector.nbytes) + len(key[1]) * (1 if key[1].isascii() else 4) + _ENTRY_BYTES
