"""The fixed hashes: of an item id to its shard, of a user to the share of traffic they fall into.

Files, shards and other programs depend on these values; they never change between releases.
"""

from __future__ import annotations

from embedcore import _native
from embedcore.errors import InvalidArgument

_MASK = (1 << 64) - 1


def item_hash(item_id: str) -> int:
    """XXH64, seed 0, of the id's UTF-8 bytes: 0 to 2^64 - 1.

    The low bits are the item's shard; the next bit decides a split of that shard.
    """
    return _native.item_hash(item_id)


def shard_of(item_id: str, shards: int) -> int:
    """The shard of an item among ``shards``, a power of two."""
    if shards < 1 or shards & (shards - 1):
        raise InvalidArgument(f"the number of shards must be a power of two, got {shards}")
    return _native.item_hash(item_id) & (shards - 1)


def share_of(key: str, salt: int) -> float:
    """Where a key falls in [0, 1) under a salt, uniformly; for traffic splits.

    ``share_of(key, salt) < share`` picks that share of all keys. A key stays picked while the share grows;
    another salt picks others. The native router decides the canary by the same function of
    ``item_hash(user_key)``. ``salt`` counts modulo 2^64.
    """
    return _native.hash_share(_native.item_hash(key), salt & _MASK)
