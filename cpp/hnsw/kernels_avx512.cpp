// AVX-512 kernels. Compiled with -mavx512f and entered only after runs_here(); the same care as in
// kernels_avx2.cpp: no inline code from elsewhere, everything in an unnamed namespace.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized" // GCC bug 105593: a false alarm inside immintrin.h
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

namespace {

inline __m512 dot_step(__m512 a, __m512 b, __m512 sum) { return _mm512_fmadd_ps(a, b, sum); }

inline __m512 l2_step(__m512 a, __m512 b, __m512 sum) {
  const __m512 d = _mm512_sub_ps(a, b);
  return _mm512_fmadd_ps(d, d, sum);
}

template <__m512 (*step)(__m512, __m512, __m512)>
inline float reduce(const float* a, const float* b, std::size_t n) {
  __m512 s0 = _mm512_setzero_ps();
  __m512 s1 = s0;
  __m512 s2 = s0;
  __m512 s3 = s0;
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    s0 = step(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
    s1 = step(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
    s2 = step(_mm512_loadu_ps(a + i + 32), _mm512_loadu_ps(b + i + 32), s2);
    s3 = step(_mm512_loadu_ps(a + i + 48), _mm512_loadu_ps(b + i + 48), s3);
  }
  for (; i + 16 <= n; i += 16) s0 = step(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
  if (i < n) {
    const auto mask = static_cast<__mmask16>((1u << (n - i)) - 1u);
    s1 = step(_mm512_maskz_loadu_ps(mask, a + i), _mm512_maskz_loadu_ps(mask, b + i), s1);
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

float dot(const float* a, const float* b, std::size_t n) { return reduce<dot_step>(a, b, n); }
float l2(const float* a, const float* b, std::size_t n) { return reduce<l2_step>(a, b, n); }

} // namespace

const Kernels kernels_avx512{"avx512", dot, l2};

} // namespace embedcore::hnsw
