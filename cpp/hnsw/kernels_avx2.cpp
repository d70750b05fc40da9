// AVX2 and FMA kernels. Compiled with -mavx2 -mfma and entered only after runs_here(); includes nothing
// that has inline code of its own, and keeps everything in an unnamed namespace, so that no function
// compiled for AVX2 replaces a baseline one at link time.
#include <immintrin.h>

#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

namespace {

inline float horizontal(__m256 v) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// The first n lanes set, n in 0..7.
inline __m256i first_lanes(std::size_t n) {
  alignas(32) static constexpr int bits[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bits + 8 - n));
}

inline __m256 dot_step(__m256 a, __m256 b, __m256 sum) { return _mm256_fmadd_ps(a, b, sum); }

inline __m256 l2_step(__m256 a, __m256 b, __m256 sum) {
  const __m256 d = _mm256_sub_ps(a, b);
  return _mm256_fmadd_ps(d, d, sum);
}

template <__m256 (*step)(__m256, __m256, __m256)>
inline float reduce(const float* a, const float* b, std::size_t n) {
  __m256 s0 = _mm256_setzero_ps();
  __m256 s1 = s0;
  __m256 s2 = s0;
  __m256 s3 = s0;
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    s0 = step(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
    s1 = step(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);
    s2 = step(_mm256_loadu_ps(a + i + 16), _mm256_loadu_ps(b + i + 16), s2);
    s3 = step(_mm256_loadu_ps(a + i + 24), _mm256_loadu_ps(b + i + 24), s3);
  }
  for (; i + 8 <= n; i += 8) s0 = step(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
  if (i < n) {
    const __m256i mask = first_lanes(n - i);
    s1 = step(_mm256_maskload_ps(a + i, mask), _mm256_maskload_ps(b + i, mask), s1);
  }
  return horizontal(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}

float dot(const float* a, const float* b, std::size_t n) { return reduce<dot_step>(a, b, n); }
float l2(const float* a, const float* b, std::size_t n) { return reduce<l2_step>(a, b, n); }

} // namespace

const Kernels kernels_avx2{"avx2", dot, l2};

} // namespace embedcore::hnsw
