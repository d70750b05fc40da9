// XXH64, and the item hash: the one fixed hash of an item id. Files, shards and other programs depend on
// it; it must never change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace embedcore {

// XXH64 as specified by the xxHash algorithm description, version 0.1.1. Equal on machines of either
// byte order. Thread-safe. Not for adversaries: collisions can be made on purpose.
[[nodiscard]] std::uint64_t xxh64(const void* data, std::size_t n, std::uint64_t seed = 0);

// XXH64, seed 0, of the id's UTF-8 bytes. Its low bits are the item's shard, and the next bit decides
// a split of that shard.
[[nodiscard]] inline std::uint64_t item_hash(std::string_view id) { return xxh64(id.data(), id.size()); }

// A bijective mix of 64 bits (the finaliser of SplitMix64, Steele et al., OOPSLA 2014).
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xBF58476D1CE4E5B9ull;
  x ^= x >> 27;
  x *= 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// Where a hashed key falls in [0, 1) under a salt: of all keys the part p has share < p, keeps it while
// p grows, and falls anew under another salt. 53 bits, so the value is exact in a double. Traffic splits
// (canary, shadow, consistency samples) use this and nothing else.
[[nodiscard]] constexpr double hash_share(std::uint64_t hash, std::uint64_t salt) {
  const std::uint64_t salted = mix64(hash ^ mix64(salt + 0x9E3779B97F4A7C15ull));
  return static_cast<double>(salted >> 11) * 0x1.0p-53;
}

} // namespace embedcore
