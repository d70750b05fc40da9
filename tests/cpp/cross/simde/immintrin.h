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
// Unsigned: sums that wrap around.
inline int reduce_add_epi32(simde__m512i a) {
  return static_cast<int>(Lanes<unsigned, simde__m512i>(a).sum());
}
inline float reduce_add_ps(simde__m512 a) { return Lanes<float, simde__m512>(a).sum(); }

} // namespace cross

#undef _mm256_maskz_loadu_epi16
#undef _mm512_maskz_loadu_ps
#undef _mm512_cvtph_ps
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi8_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_reduce_add_epi32
#undef _mm512_reduce_add_ps
#define _mm256_maskz_loadu_epi16(mask, at) cross::masked_load<short, __m256i>(mask, at)
#define _mm512_maskz_loadu_ps(mask, at) cross::masked_load<float, simde__m512>(mask, at)
#define _mm512_cvtph_ps(a) cross::cvtph_ps(a)
#define _mm512_cvtepu16_epi32(a) cross::cvtepu16_epi32(a)
#define _mm512_cvtepi8_epi32(a) cross::cvtepi8_epi32(a)
#define _mm512_cvtepi32_ps(a) cross::cvtepi32_ps(a)
#define _mm512_reduce_add_epi32(a) cross::reduce_add_epi32(a)
#define _mm512_reduce_add_ps(a) cross::reduce_add_ps(a)
