"""The fixed hashes: published vectors, and the traffic split against its definition in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from embedcore import _native
from embedcore.errors import InvalidArgument
from embedcore.hashing import item_hash, shard_of, share_of

MASK = (1 << 64) - 1


def mix64(x: int) -> int:
    x ^= x >> 30
    x = x * 0xBF58476D1CE4E5B9 & MASK
    x ^= x >> 27
    x = x * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def test_item_hash_is_xxh64_of_utf8() -> None:
    assert item_hash("") == 0xEF46DB3751D8E999
    assert item_hash("abc") == 0x44BC2CF5AD770999
    assert item_hash("Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1
    assert item_hash("é") != item_hash("e")
    assert _native.item_hash("abc", 1) != item_hash("abc")


def test_shard_is_the_low_bits() -> None:
    for shards in (1, 2, 4, 64):
        for i in range(200):
            assert shard_of(f"item{i}", shards) == item_hash(f"item{i}") % shards
    # A split by the next bit moves an item to its shard or to that plus the old count.
    assert all(shard_of(f"item{i}", 8) % 4 == shard_of(f"item{i}", 4) for i in range(200))
    for shards in (0, -1, 3, 12):
        with pytest.raises(InvalidArgument, match="power of two"):
            shard_of("a", shards)


def test_share_is_its_definition() -> None:
    for key in ("user-1", "user-2", "ü"):
        for salt in (0, 7, MASK, -1):
            salted = mix64(item_hash(key) ^ mix64((salt + 0x9E3779B97F4A7C15) & MASK))
            assert share_of(key, salt) == (salted >> 11) / 2**53


def test_share_splits_evenly_and_salts_are_independent() -> None:
    a = np.array([share_of(f"user{i}", 1) for i in range(5000)])
    b = np.array([share_of(f"user{i}", 2) for i in range(5000)])
    assert abs(np.mean(a < 0.05) - 0.05) < 0.0125  # 4 standard deviations of a binomial share
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.06


def test_crc32c() -> None:
    assert _native.crc32c(b"123456789") == 0xE3069283
    assert _native.crc32c(b"") == 0
    assert _native.crc32c(b"6789", _native.crc32c(b"12345")) == 0xE3069283
