// Stands in front of the compiler's <immintrin.h> when tests/cpp/cross/run.sh builds kernels_avx512.cpp for a
// processor without AVX-512: SIMDe does what those instructions do with AVX2 ones. What SIMDe 0.7.4 (Debian
// 12) lacks is added here, for what the kernels use only; where SIMDe has it by now, ours goes first.
#pragma once
#pragma GCC system_header // whatever warnings these raise, they are not about the kernels

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

namespace cross {

template <class Lane, class Vector>
struct Lanes { // of a vector, one by one
  static constexpr int count = sizeof(Vector) / sizeof(Lane);
  Lane lane[count];

  explicit Lanes(Vector from) { __builtin_memcpy(lane, &from, sizeof(from)); }
  Lane sum() const {
    Lane total = 0;
    for (int i = 0; i < count; ++i) total += lane[i];
    return total;
  }
};

template <class Vector, class Half>
inline Vector join(Half low, Half high) {
  Vector both;
  __builtin_memcpy(&both, &low, sizeof(low));
  __builtin_memcpy(reinterpret_cast<char*>(&both) + sizeof(low), &high, sizeof(high));
  return both;
}

template <class Lane, class Vector>
inline Vector masked_load(unsigned mask, const void* at) { // touches the lanes of the mask only
  Lane lane[sizeof(Vector) / sizeof(Lane)] = {};
  for (unsigned i = 0; mask >> i != 0; ++i) {
    if ((mask >> i & 1) != 0) {
      __builtin_memcpy(&lane[i], static_cast<const char*>(at) + i * sizeof(Lane), sizeof(Lane));
    }
  }
  Vector loaded;
  __builtin_memcpy(&loaded, lane, sizeof(loaded));
  return loaded;
}

inline simde__m512 cvtph_ps(__m256i a) {
  return join<simde__m512>(_mm256_cvtph_ps(_mm256_castsi256_si128(a)),
                           _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)));
}
inline simde__m512i cvtepu16_epi32(__m256i a) {
  return join<simde__m512i>(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)),
                            _mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1)));
}
inline simde__m512i cvtepi8_epi32(__m128i a) {
  return join<simde__m512i>(_mm256_cvtepi8_epi32(a), _mm256_cvtepi8_epi32(_mm_srli_si128(a, 8)));
}
inline simde__m512 cvtepi32_ps(simde__m512i a) {
  __m256i half[2];
  __builtin_memcpy(half, &a, sizeof(a));
  return join<simde__m512>(_mm256_cvtepi32_ps(half[0]), _mm256_cvtepi32_ps(half[1]));
}
// What becomes of each lane, by its number.
template <class Lane, class Vector, class Get>
inline Vector each(Get get) {
  Lane lane[sizeof(Vector) / sizeof(Lane)];
  for (unsigned i = 0; i < sizeof(Vector) / sizeof(Lane); ++i) lane[i] = get(i);
  Vector made;
  __builtin_memcpy(&made, lane, sizeof(made));
  return made;
}
inline __m128 cvtepu32_ps(__m128i a) {
  const Lanes<unsigned, __m128i> from(a);
  return each<float, __m128>([&](unsigned i) { return static_cast<float>(from.lane[i]); });
}
inline simde__m512i srai_epi32(simde__m512i a, unsigned by) {
  const Lanes<int, simde__m512i> from(a);
  return each<int, simde__m512i>([&](unsigned i) { return from.lane[i] >> by; });
}
inline simde__m512i alignr_epi32(simde__m512i high, simde__m512i low, unsigned by) {
  const Lanes<int, simde__m512i> a(high), b(low);
  return each<int, simde__m512i>(
      [&](unsigned i) { return i + by < 16 ? b.lane[i + by] : a.lane[i + by - 16]; });
}
inline simde__m512i gather_epi32(simde__m512i index, const void* base, int scale) {
  const Lanes<int, simde__m512i> at(index);
  return each<int, simde__m512i>([&](unsigned i) {
    int value;
    __builtin_memcpy(&value, static_cast<const char*>(base) + static_cast<long>(at.lane[i]) * scale,
                     sizeof(value));
    return value;
  });
}
inline simde__mmask16 testn_epi32_mask(simde__m512i a, simde__m512i b) {
  const Lanes<int, simde__m512i> x(a), y(b);
  unsigned mask = 0;
  for (unsigned i = 0; i < 16; ++i) mask |= static_cast<unsigned>((x.lane[i] & y.lane[i]) == 0) << i;
  return static_cast<simde__mmask16>(mask);
}
inline __m128i compress_epi32(unsigned mask, __m128i a) { // the lanes of the mask first, zeros behind
  const Lanes<int, __m128i> from(a);
  int lane[4] = {};
  unsigned count = 0;
  for (unsigned i = 0; i < 4; ++i) {
    if ((mask >> i & 1) != 0) lane[count++] = from.lane[i];
  }
  return each<int, __m128i>([&](unsigned i) { return lane[i]; });
}
// The first lanes of a go where the mask is, in order; the others are those of from.
template <class Lane, class Vector>
inline Vector expand(Vector from, unsigned mask, Vector a) {
  Lanes<Lane, Vector> made(from);
  const Lanes<Lane, Vector> values(a);
  unsigned count = 0;
  for (unsigned i = 0; i < 16; ++i) {
    if ((mask >> i & 1) != 0) made.lane[i] = values.lane[count++];
  }
  return each<Lane, Vector>([&](unsigned i) { return made.lane[i]; });
}
// Unsigned: sums that wrap around.
inline int reduce_add_epi32(simde__m512i a) {
  return static_cast<int>(Lanes<unsigned, simde__m512i>(a).sum());
}
inline float reduce_add_ps(simde__m512 a) { return Lanes<float, simde__m512>(a).sum(); }

} // namespace cross

#undef _mm_cvtepu32_ps
#undef _mm_mask_cmp_ps_mask
#undef _mm_maskz_compress_epi32
#undef _mm_maskz_loadu_epi32
#undef _mm512_alignr_epi32
#undef _mm512_i32gather_epi32
#undef _mm512_srai_epi32
#undef _mm512_testn_epi32_mask
#undef _mm256_maskz_loadu_epi16
#undef _mm512_maskz_loadu_epi32
#undef _mm512_maskz_loadu_ps
#undef _mm512_mask_expand_epi32
#undef _mm512_mask_expand_ps
#undef _mm512_maskz_expand_epi32
#undef _mm512_maskz_expand_ps
#undef _mm512_cvtph_ps
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_reduce_add_epi32
#undef _mm512_reduce_add_ps
#define _mm_cvtepu32_ps(a) cross::cvtepu32_ps(a)
#define _mm_mask_cmp_ps_mask(mask, a, b, how) \
  static_cast<__mmask8>((mask) & _mm_movemask_ps(_mm_cmp_ps(a, b, how)))
#define _mm_maskz_compress_epi32(mask, a) cross::compress_epi32(mask, a)
#define _mm_maskz_loadu_epi32(mask, at) cross::masked_load<int, __m128i>(mask, at)
#define _mm512_alignr_epi32(a, b, by) cross::alignr_epi32(a, b, by)
#define _mm512_i32gather_epi32(index, base, scale) cross::gather_epi32(index, base, scale)
#define _mm512_srai_epi32(a, by) cross::srai_epi32(a, by)
#define _mm512_testn_epi32_mask(a, b) cross::testn_epi32_mask(a, b)
#define _mm256_maskz_loadu_epi16(mask, at) cross::masked_load<short, __m256i>(mask, at)
#define _mm512_maskz_loadu_epi32(mask, at) cross::masked_load<int, simde__m512i>(mask, at)
#define _mm512_mask_expand_epi32(from, mask, a) cross::expand<int, simde__m512i>(from, mask, a)
#define _mm512_mask_expand_ps(from, mask, a) cross::expand<float, simde__m512>(from, mask, a)
#define _mm512_maskz_expand_epi32(mask, a) cross::expand<int, simde__m512i>(_mm512_setzero_si512(), mask, a)
#define _mm512_maskz_expand_ps(mask, a) cross::expand<float, simde__m512>(_mm512_setzero_ps(), mask, a)
#define _mm512_maskz_loadu_ps(mask, at) cross::masked_load<float, simde__m512>(mask, at)
#define _mm512_cvtph_ps(a) cross::cvtph_ps(a)
#define _mm512_cvtepu16_epi32(a) cross::cvtepu16_epi32(a)
#define _mm512_cvtepi8_epi32(a) cross::cvtepi8_epi32(a)
#define _mm512_cvtepi32_ps(a) cross::cvtepi32_ps(a)
#define _mm512_reduce_add_epi32(a) cross::reduce_add_epi32(a)
#define _mm512_reduce_add_ps(a) cross::reduce_add_ps(a)
