// What the rows of AVX-512 kernels have in common: loads, and sums over whole vectors.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized" // GCC bug 105593: a false alarm inside immintrin.h
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

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

// Wraps; _mm512_reduce_add_epi32 does as well, but by additions of signed numbers, for which that is
// undefined.
inline std::int32_t sum_of(__m512i v) {
  const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
}

// Of a wrapped sum: signed for dot, unsigned for squares, which never wrap.
template <Sum kind>
inline float total(__m512i v) {
  const std::int32_t sum = sum_of(v);
  return kind == Sum::dot ? static_cast<float>(sum) : static_cast<float>(static_cast<std::uint32_t>(sum));
}

inline __m512i load(const void* at) { return _mm512_loadu_si512(at); }

inline __m256i halves(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

// Of four vectors: place r of each quarter is the sum of that quarter of the r-th.
inline __m512i quarter_sums(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  return _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
}
inline __m128i over_quarters(__m512i v) {
  const __m256i halves = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
}

// sum + products of 64 unsigned with 64 signed bytes, four a lane; likewise of 16-bit values, two a lane. Not
// the intrinsics: around those GCC 12 copies every sum that a loop carries twice a turn, and spills them.
#if defined(__GNUC__) && !defined(__clang__) && !defined(EMBEDCORE_CROSS_AVX512)
inline __m512i add_bytes(__m512i sum, __m512i bytes, __m512i with) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "vm"(with));
  return sum;
}
inline __m512i add_words(__m512i sum, __m512i words, __m512i with) {
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(words), "vm"(with));
  return sum;
}
#else
inline __m512i add_bytes(__m512i sum, __m512i bytes, __m512i with) {
  return _mm512_dpbusd_epi32(sum, bytes, with);
}
inline __m512i add_words(__m512i sum, __m512i words, __m512i with) {
  return _mm512_dpwssd_epi32(sum, words, with);
}
#endif

// Squares of 64 unsigned bytes. vpdpbusd would take one factor as signed, so they are widened.
inline __m512i add_squares(__m512i bytes, __m512i sum) {
  const __m512i even = _mm512_and_si512(bytes, _mm512_set1_epi16(0xFF));
  const __m512i odd = _mm512_srli_epi16(bytes, 8);
  return add_words(add_words(sum, even, even), odd, odd);
}

} // namespace

} // namespace embedcore::hnsw
