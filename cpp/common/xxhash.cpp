// XXH64, written from the algorithm description: four lanes over stripes of 32 bytes, then the tail.
#include "common/xxhash.h"

#include <bit>

namespace embedcore {

namespace {

constexpr std::uint64_t prime1 = 0x9E3779B185EBCA87ull;
constexpr std::uint64_t prime2 = 0xC2B2AE3D27D4EB4Full;
constexpr std::uint64_t prime3 = 0x165667B19E3779F9ull;
constexpr std::uint64_t prime4 = 0x85EBCA77C2B2AE63ull;
constexpr std::uint64_t prime5 = 0x27D4EB2F165667C5ull;

// Little-endian on every machine; compilers make one load of it.
template <class T>
T read(const unsigned char* p) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= static_cast<T>(static_cast<T>(p[i]) << (8 * i));
  return value;
}

std::uint64_t round(std::uint64_t lane, std::uint64_t word) {
  return std::rotl(lane + word * prime2, 31) * prime1;
}

std::uint64_t merge(std::uint64_t hash, std::uint64_t lane) {
  return (hash ^ round(0, lane)) * prime1 + prime4;
}

} // namespace

std::uint64_t xxh64(const void* data, std::size_t n, std::uint64_t seed) {
  const auto* p = static_cast<const unsigned char*>(data);
  const std::uint64_t length = n;
  std::uint64_t hash = seed + prime5;
  if (n >= 32) {
    std::uint64_t a = seed + prime1 + prime2;
    std::uint64_t b = seed + prime2;
    std::uint64_t c = seed;
    std::uint64_t d = seed - prime1;
    for (; n >= 32; n -= 32, p += 32) {
      a = round(a, read<std::uint64_t>(p));
      b = round(b, read<std::uint64_t>(p + 8));
      c = round(c, read<std::uint64_t>(p + 16));
      d = round(d, read<std::uint64_t>(p + 24));
    }
    hash = std::rotl(a, 1) + std::rotl(b, 7) + std::rotl(c, 12) + std::rotl(d, 18);
    hash = merge(merge(merge(merge(hash, a), b), c), d);
  }
  hash += length;
  for (; n >= 8; n -= 8, p += 8) {
    hash = std::rotl(hash ^ round(0, read<std::uint64_t>(p)), 27) * prime1 + prime4;
  }
  if (n >= 4) {
    hash = std::rotl(hash ^ (read<std::uint32_t>(p) * prime1), 23) * prime2 + prime3;
    n -= 4;
    p += 4;
  }
  for (; n > 0; --n, ++p) hash = std::rotl(hash ^ (*p * prime5), 11) * prime1;
  hash = (hash ^ (hash >> 33)) * prime2;
  hash = (hash ^ (hash >> 29)) * prime3;
  return hash ^ (hash >> 32);
}

} // namespace embedcore
