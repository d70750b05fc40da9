// AVX2 kernels, with FMA and F16C. Entered only after runs_here(); see walk_loop.h for why everything is in
// an unnamed namespace.
#include "hnsw/kernels_avx2_codes.h"

namespace embedcore::hnsw {

namespace {

// The first n lanes set, n in 0..7.
inline __m256i first_lanes(std::size_t n) {
  alignas(32) static constexpr int bits[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
  return load(bits + 8 - n);
}

template <Sum kind>
inline __m256 step(__m256 a, __m256 b, __m256 sum) {
  if constexpr (kind == Sum::dot) return _mm256_fmadd_ps(a, b, sum);
  const __m256 d = _mm256_sub_ps(a, b);
  return _mm256_fmadd_ps(d, d, sum);
}

// Rows of floats in any form: Load gives eight values from position i on.
template <Sum kind, class Load, class Tail>
inline float float_sum(const float* q, std::size_t n, Load at, Tail tail) {
  __m256 s0 = _mm256_setzero_ps();
  __m256 s1 = s0;
  __m256 s2 = s0;
  __m256 s3 = s0;
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    s0 = step<kind>(_mm256_loadu_ps(q + i), at(i), s0);
    s1 = step<kind>(_mm256_loadu_ps(q + i + 8), at(i + 8), s1);
    s2 = step<kind>(_mm256_loadu_ps(q + i + 16), at(i + 16), s2);
    s3 = step<kind>(_mm256_loadu_ps(q + i + 24), at(i + 24), s3);
  }
  for (; i + 8 <= n; i += 8) s0 = step<kind>(_mm256_loadu_ps(q + i), at(i), s0);
  if (i < n) s1 = step<kind>(_mm256_maskload_ps(q + i, first_lanes(n - i)), tail(i, n - i), s1);
  return horizontal(_mm256_add_ps(_mm256_add_ps(s0, s1), _mm256_add_ps(s2, s3)));
}

inline std::size_t unseen(const std::uint32_t* links, std::size_t count, const std::uint32_t* seen,
                          std::uint32_t limit, std::uint32_t* out) {
  return unseen_one_by_one(links, count, seen, limit, out);
}
inline std::size_t linked(const std::uint32_t* links, std::size_t count, std::uint32_t* out) {
  return linked_one_by_one(links, count, out);
}
inline void push_all(Walk& w, const float* distances, const std::uint32_t* slots, std::uint32_t near) {
  push_one_by_one(w, distances, slots, near);
}

inline std::size_t insert(Walk& w, float distance, std::uint32_t slot) {
  return insert_by_rank(w, distance, slot);
}

inline std::uint32_t signs(__m256 low, __m256 high) {
  return static_cast<unsigned>(_mm256_movemask_ps(low)) | static_cast<unsigned>(_mm256_movemask_ps(high))
                                                              << 8;
}
template <int comparison>
inline std::uint32_t compare(const float* sixteen, float x) {
  const __m256 bound = _mm256_set1_ps(x);
  return signs(_mm256_cmp_ps(_mm256_loadu_ps(sixteen), bound, comparison),
               _mm256_cmp_ps(_mm256_loadu_ps(sixteen + 8), bound, comparison));
}
inline std::uint32_t not_above(const float* sixteen, float x) { return compare<_CMP_LE_OQ>(sixteen, x); }
inline std::uint32_t below(const float* sixteen, float x) { return compare<_CMP_LT_OQ>(sixteen, x); }
inline std::uint32_t not_expanded(const std::uint32_t* sixteen) {
  return signs(_mm256_castsi256_ps(load(sixteen)), _mm256_castsi256_ps(load(sixteen + 8))) ^ 0xFFFF;
}

template <Sum kind>
struct F32 : FloatRow {
  static constexpr std::size_t bytes = 4; // of a value
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    const auto* r = reinterpret_cast<const float*>(row);
    return float_sum<kind>(
        q, n, [=](std::size_t i) { return _mm256_loadu_ps(r + i); },
        [=](std::size_t i, std::size_t left) { return _mm256_maskload_ps(r + i, first_lanes(left)); });
  }
};

// The last values of a row of 16-bit ones, without reading beyond it.
inline __m128i last_halves(const std::byte* at, std::size_t left) {
  alignas(16) std::uint16_t halves[8] = {};
  __builtin_memcpy(halves, at, 2 * left);
  return _mm_load_si128(reinterpret_cast<const __m128i*>(halves));
}

inline __m128i halves(const std::byte* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }

template <Sum kind>
struct F16 : FloatRow {
  static constexpr std::size_t bytes = 2; // of a value
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    return float_sum<kind>(
        q, n, [=](std::size_t i) { return _mm256_cvtph_ps(halves(row + 2 * i)); },
        [=](std::size_t i, std::size_t left) { return _mm256_cvtph_ps(last_halves(row + 2 * i, left)); });
  }
};

// From eight in both halves: each into the upper half of a lane, zeros below.
inline __m256 from_bfloat16(__m128i v) {
  const __m256i places = _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7, //
                                          -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
  return _mm256_castsi256_ps(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(v), places));
}

template <Sum kind>
struct Bf16 : FloatRow {
  static constexpr std::size_t bytes = 2; // of a value
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    return float_sum<kind>(
        q, n, [=](std::size_t i) { return from_bfloat16(halves(row + 2 * i)); },
        [=](std::size_t i, std::size_t left) { return from_bfloat16(last_halves(row + 2 * i, left)); });
  }
};

template <Sum kind>
struct S8 : FloatRow {
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    const __m256 unit = _mm256_set1_ps(kind == Sum::dot ? 1.0f : float_at(row + (n + 63) / 64 * 64));
    // Rows are padded with zeros to a multiple of 64, so eight bytes may always be read.
    const auto at = [=](std::size_t i) {
      const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + i));
      const __m256 values = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
      return kind == Sum::dot ? values : _mm256_mul_ps(values, unit);
    };
    return float_sum<kind>(q, n, at, [=](std::size_t i, std::size_t) { return at(i); });
  }
};

float dot(const float* a, const float* b, std::size_t n) {
  return F32<Sum::dot>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}
float l2(const float* a, const float* b, std::size_t n) {
  return F32<Sum::l2>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}

} // namespace

constinit const Kernels kernels_avx2 = make_kernels<F32, F16, Bf16, S8, I8, I7, U4>("avx2", dot, l2);

} // namespace embedcore::hnsw
