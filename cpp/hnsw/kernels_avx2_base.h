// What the rows of AVX2 kernels have in common: loads, and sums over whole vectors.
#pragma once

#include <immintrin.h>

#include "hnsw/walk_loop.h"

namespace embedcore::hnsw {

namespace {

struct FloatRow {
  using Query = float;
};
struct ByteRow {
  using Query = std::int8_t;
};

inline float horizontal(__m256 v) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

inline std::uint32_t horizontal(__m256i v) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(four));
}

// Of a wrapped sum: signed for dot, unsigned for squares, which never wrap.
template <Sum kind>
inline float total(__m256i v) {
  const std::uint32_t sum = horizontal(v);
  return kind == Sum::dot ? static_cast<float>(static_cast<std::int32_t>(sum)) : static_cast<float>(sum);
}

inline __m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

} // namespace

} // namespace embedcore::hnsw
