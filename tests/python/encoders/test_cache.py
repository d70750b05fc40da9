"""The cache against a plain list of recency, and an encoder that is asked once per distinct text."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from embedcore.encoders import CachedEncoder, VectorCache
from embedcore.errors import DataLoss, InvalidArgument
from embedcore.types import Fingerprint

from .conftest import DIMENSION, FakeEncoder, fingerprint, unit_vectors

ENTRY = DIMENSION * 4 + 1 + 320  # bytes of one entry with a text of one ASCII character


def test_against_a_list_of_recency() -> None:
    capacity = 5
    cache = VectorCache(capacity * ENTRY)
    recent: list[str] = []  # oldest first
    hits = misses = evictions = 0
    rng = np.random.default_rng(7)
    for text in rng.choice(list("abcdefghij"), size=2_000).tolist():
        (found,) = cache.get_many("d", [text])
        assert (found is not None) == (text in recent)
        if found is not None:
            hits += 1
            recent.remove(text)
            np.testing.assert_array_equal(found, unit_vectors([text])[0])
        else:
            misses += 1
            cache.put_many("d", [text], unit_vectors([text]))
        recent.append(text)
        if len(recent) > capacity:
            recent.pop(0)
            evictions += 1
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.evictions) == (hits, misses, evictions)
    assert stats.entries == capacity
    assert stats.bytes == capacity * ENTRY == stats.capacity_bytes


def test_another_revision_is_never_found() -> None:
    cache = VectorCache(1 << 20)
    cache.put_many("old", ["a"], unit_vectors(["a"]))
    assert cache.get_many("new", ["a"]) == [None]


def test_a_text_too_large_for_the_cache_is_not_kept() -> None:
    cache = VectorCache(2 * ENTRY)
    cache.put_many("d", ["a"], unit_vectors(["a"]))
    cache.put_many("d", ["x" * 1_000], unit_vectors(["x"]))
    assert cache.stats().entries == 1
    assert cache.get_many("d", ["a"])[0] is not None
    nothing = VectorCache(0)
    nothing.put_many("d", ["a"], unit_vectors(["a"]))
    assert nothing.stats().entries == 0


def test_what_is_kept_is_a_copy_that_nobody_can_change() -> None:
    cache = VectorCache(1 << 20)
    vectors = unit_vectors(["a"])
    cache.put_many("d", ["a"], vectors)
    vectors[:] = 0
    (kept,) = cache.get_many("d", ["a"])
    assert kept is not None
    np.testing.assert_array_equal(kept, unit_vectors(["a"])[0])
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1


def test_replacing_and_purging_keep_count_of_bytes() -> None:
    cache = VectorCache(1 << 20)
    for digest in ("one", "two"):
        cache.put_many(digest, ["a", "b"], unit_vectors(["a", "b"]))
        cache.put_many(digest, ["b", "c"], unit_vectors(["b", "c"]))
    assert cache.stats().bytes == 6 * ENTRY
    assert cache.purge("one") == 3
    assert cache.purge("one") == 0
    assert cache.stats().bytes == 3 * ENTRY
    assert cache.get_many("two", ["a"])[0] is not None


def test_a_negative_capacity_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="negative"):
        VectorCache(-1)


def test_each_distinct_text_is_encoded_once_and_order_kept(fake: FakeEncoder) -> None:
    encoder = CachedEncoder(fake, VectorCache(1 << 20))
    first = encoder.encode(["b", "a", "b"])
    np.testing.assert_array_equal(first, unit_vectors(["b", "a", "b"]))
    second = encoder.encode(["a", "c", "b"])
    np.testing.assert_array_equal(second, unit_vectors(["a", "c", "b"]))
    assert fake.calls == [["b", "a"], ["c"]]
    assert encoder.encode([]).shape == (0, DIMENSION)
    assert encoder.fingerprint == fingerprint()


def test_the_answer_is_the_callers_own(fake: FakeEncoder) -> None:
    encoder = CachedEncoder(fake, VectorCache(1 << 20))
    encoder.encode(["a"])[:] = 0
    np.testing.assert_array_equal(encoder.encode(["a"]), unit_vectors(["a"]))


def test_a_refusal_names_the_callers_row_and_caches_nothing(fake: FakeEncoder) -> None:
    cache = VectorCache(1 << 20)
    encoder = CachedEncoder(fake, cache)
    encoder.encode(["a"])
    with pytest.raises(InvalidArgument, match="text 2"):
        encoder.encode(["a", "a", None])  # type: ignore[list-item]

    def broken(texts: object) -> np.ndarray:
        raise DataLoss("broken")

    fake.make = broken
    with pytest.raises(DataLoss):
        encoder.encode(["a", "z"])
    assert cache.stats().entries == 1


def test_many_threads_get_right_vectors_from_a_small_cache(fake: FakeEncoder) -> None:
    cache = VectorCache(6 * ENTRY)
    encoder = CachedEncoder(fake, cache)
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(100):
            texts = rng.choice(list("abcdefghijkl"), size=4).tolist()
            if not np.array_equal(encoder.encode(texts), unit_vectors(texts)):
                wrong.append(str(texts))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert wrong == []
    assert stats.hits + stats.misses == 4 * 100 * 4
    assert stats.bytes == stats.entries * ENTRY <= stats.capacity_bytes


def test_what_the_cache_beside_has_is_not_encoded_again() -> None:
    asked: list[str] = []

    class Counting:
        fingerprint = Fingerprint(model="counting", revision="1", dimension=2)

        def encode(self, texts: Sequence[str]) -> np.ndarray:
            asked.extend(texts)
            return np.array([[len(text), 1.0] for text in texts], np.float32)

    bulk, queries = VectorCache(1 << 16), VectorCache(1 << 16)
    CachedEncoder(Counting(), bulk, queries).encode(["a", "bb"])
    encoder = CachedEncoder(Counting(), queries, bulk)
    found = encoder.encode(["bb", "ccc", "bb"])
    assert found[:, 0].tolist() == [2.0, 3.0, 2.0]
    assert asked == ["a", "bb", "ccc"]
    assert bulk.stats().hits == 0, "a look from beside makes nothing recent"
    bulk.purge(Counting.fingerprint.digest)
    encoder.encode(["bb"])
    assert asked == ["a", "bb", "ccc"], "what was found beside was copied"
