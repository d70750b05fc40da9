// AVX-512 kernels: F, BW, VL, DQ and VNNI, as of Ice Lake and Zen 4. Entered only after runs_here(); see
// walk_loop.h for why everything is in an unnamed namespace.
#include "hnsw/kernels_avx512_queue.h"
#include "hnsw/kernels_avx512_u4.h"

namespace embedcore::hnsw {

namespace {

// The first n lanes, n in 0..15.
inline __mmask16 first_lanes(std::size_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

template <Sum kind>
inline __m512 step(__m512 a, __m512 b, __m512 sum) {
  if constexpr (kind == Sum::dot) return _mm512_fmadd_ps(a, b, sum);
  const __m512 d = _mm512_sub_ps(a, b);
  return _mm512_fmadd_ps(d, d, sum);
}

// Rows of floats in any form: Load gives sixteen values from position i on, Tail those under a mask and
// zeros; what is masked off is not read.
template <Sum kind, class Load, class Tail>
inline float float_sum(const float* q, std::size_t n, Load at, Tail tail) {
  __m512 s0 = _mm512_setzero_ps();
  __m512 s1 = s0;
  __m512 s2 = s0;
  __m512 s3 = s0;
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64) {
    s0 = step<kind>(_mm512_loadu_ps(q + i), at(i), s0);
    s1 = step<kind>(_mm512_loadu_ps(q + i + 16), at(i + 16), s1);
    s2 = step<kind>(_mm512_loadu_ps(q + i + 32), at(i + 32), s2);
    s3 = step<kind>(_mm512_loadu_ps(q + i + 48), at(i + 48), s3);
  }
  for (; i + 16 <= n; i += 16) s0 = step<kind>(_mm512_loadu_ps(q + i), at(i), s0);
  if (i < n) {
    const __mmask16 mask = first_lanes(n - i);
    s1 = step<kind>(_mm512_maskz_loadu_ps(mask, q + i), tail(i, mask), s1);
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
}

// Sixteen atomic words, of which those count that are not masked off. Nothing is taken from their order; each
// is read once, which the compiler has to be told: otherwise it may load the vector again, and what was
// checked is not what is used.
inline __m512i load_links(const std::uint32_t* links, __mmask16 mask = 0xFFFF) {
  __m512i words = _mm512_maskz_loadu_epi32(mask, links);
#ifndef EMBEDCORE_PLAIN_LINKS
  asm volatile("" : "+v"(words));
#endif
  return _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(slot_bits)));
}

inline std::size_t linked(const std::uint32_t* links, std::size_t count, std::uint32_t* out) {
#ifdef __SANITIZE_THREAD__ // which takes wide loads of atomic words for races
  return linked_one_by_one(links, count, out);
#else
  std::size_t n = 0;
  for (std::size_t i = 0; i < count; i += 16) {
    const __mmask16 there = count - i < 16 ? first_lanes(count - i) : 0xFFFF;
    const __m512i to = load_links(links + i, there);
    const __mmask16 empty = _mm512_cmpeq_epi32_mask(to, _mm512_set1_epi32(static_cast<int>(slot_bits)));
    const auto leads = static_cast<__mmask16>(there & ~empty);
    _mm512_storeu_si512(out + n, _mm512_maskz_compress_epi32(leads, to));
    n += static_cast<std::size_t>(__builtin_popcount(leads));
  }
  return n;
#endif
}

inline std::size_t unseen(const std::uint32_t* links, std::size_t count, const std::uint32_t* seen,
                          std::uint32_t limit, std::uint32_t* out) {
#ifdef __SANITIZE_THREAD__ // which takes wide loads of atomic words for races
  return unseen_one_by_one(links, count, seen, limit, out);
#else
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i last = _mm512_set1_epi32(static_cast<int>(limit));
  std::size_t n = 0;
  for (std::size_t i = 0; i < count; i += 16) {
    const __m512i to = load_links(links + i);
    const __m512i known = _mm512_min_epu32(to, last);
    const __m512i words = _mm512_i32gather_epi32(_mm512_srli_epi32(known, 5), seen, 4);
    const __m512i bits = _mm512_sllv_epi32(one, _mm512_and_si512(known, _mm512_set1_epi32(31)));
    const __mmask16 fresh = _mm512_testn_epi32_mask(words, bits);
    _mm512_storeu_si512(out + n, _mm512_maskz_compress_epi32(fresh, to));
    n += static_cast<std::size_t>(__builtin_popcount(fresh));
  }
  return n;
#endif
}

template <Sum kind>
struct F32 : FloatRow {
  static constexpr std::size_t bytes = 4; // of a value
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    const auto* r = reinterpret_cast<const float*>(row);
    return float_sum<kind>(
        q, n, [=](std::size_t i) { return _mm512_loadu_ps(r + i); },
        [=](std::size_t i, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, r + i); });
  }
};

template <Sum kind>
struct F16 : FloatRow {
  static constexpr std::size_t bytes = 2; // of a value
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    return float_sum<kind>(
        q, n, [=](std::size_t i) { return _mm512_cvtph_ps(halves(row + 2 * i)); },
        [=](std::size_t i, __mmask16 mask) {
          return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row + 2 * i));
        });
  }
};

inline __m512 from_bfloat16(__m256i v) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

// Widened, not vdpbf16ps: that would round the query, and flush subnormals.
template <Sum kind>
struct Bf16 : FloatRow {
  static constexpr std::size_t bytes = 2; // of a value
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    return float_sum<kind>(
        q, n, [=](std::size_t i) { return from_bfloat16(halves(row + 2 * i)); },
        [=](std::size_t i, __mmask16 mask) {
          return from_bfloat16(_mm256_maskz_loadu_epi16(mask, row + 2 * i));
        });
  }
};

template <Sum kind>
struct S8 : FloatRow {
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    const __m512 unit = _mm512_set1_ps(kind == Sum::dot ? 1.0f : float_at(row + (n + 63) / 64 * 64));
    // Rows are padded with zeros to a multiple of 64, so sixteen bytes may always be read.
    const auto at = [=](std::size_t i) {
      const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + i));
      const __m512 values = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sixteen));
      return kind == Sum::dot ? values : _mm512_mul_ps(values, unit);
    };
    return float_sum<kind>(q, n, at, [=](std::size_t i, __mmask16) { return at(i); });
  }
};

template <Sum kind>
struct I8 : ByteRow {
  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    __m512i s = _mm512_setzero_si512();
    __m512i excess = s;
    for (std::size_t i = 0; i < n; i += 64) {
      const __m512i a = load(q + i);
      const __m512i b = load(row + i);
      if constexpr (kind == Sum::dot) {
        // vpdpbusd takes one factor as unsigned: row + 128, and the sum of 128 * q taken off again. That
        // costs one instruction more; to move signs from row to query would cost three.
        const __m512i bias = _mm512_set1_epi8(static_cast<char>(0x80));
        s = add_bytes(s, _mm512_xor_si512(b, bias), a);
        excess = add_bytes(excess, bias, a);
      } else {
        s = add_squares(_mm512_sub_epi8(_mm512_max_epi8(a, b), _mm512_min_epi8(a, b)), s);
      }
    }
    return total<kind>(_mm512_sub_epi32(s, excess));
  }

  static void sum4(const std::int8_t* q, const Four& rows, std::size_t n, float* sums) {
    __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
    __m512i excess = _mm512_setzero_si512();
    const __m512i bias = _mm512_set1_epi8(static_cast<char>(0x80));
    for (std::size_t i = 0; i < n; i += 64) {
      const __m512i a = load(q + i);
      if constexpr (kind == Sum::dot) excess = add_bytes(excess, bias, a);
      for (std::size_t r = 0; r < 4; ++r) {
        const __m512i b = load(rows.at[r] + i);
        if constexpr (kind == Sum::dot) {
          s[r] = add_bytes(s[r], _mm512_xor_si512(b, bias), a);
        } else {
          s[r] = add_squares(_mm512_sub_epi8(_mm512_max_epi8(a, b), _mm512_min_epi8(a, b)), s[r]);
        }
      }
    }
    if constexpr (kind == Sum::dot) {
      for (__m512i& v : s) v = _mm512_sub_epi32(v, excess);
    }
    const __m128i whole = over_quarters(quarter_sums(s[0], s[1], s[2], s[3]));
    _mm_storeu_ps(sums, kind == Sum::dot ? _mm_cvtepi32_ps(whole) : _mm_cvtepu32_ps(whole));
  }
};

template <Sum kind>
struct I7 : I8<kind> {};
template <>
struct I7<Sum::l2> : ByteRow {
  static __m512i add(__m512i sum, __m512i a, const std::byte* b) {
    const __m512i difference = _mm512_abs_epi8(_mm512_sub_epi8(a, load(b))); // at most 126: either sign
    return add_bytes(sum, difference, difference);
  }
  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    __m512i s = _mm512_setzero_si512();
    for (std::size_t i = 0; i < n; i += 64) s = add(s, load(q + i), row + i);
    return total<Sum::l2>(s);
  }

  static void sum4(const std::int8_t* q, const Four& rows, std::size_t n, float* sums) {
    __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
    for (std::size_t i = 0; i < n; i += 64) {
      const __m512i a = load(q + i);
      for (std::size_t r = 0; r < 4; ++r) s[r] = add(s[r], a, rows.at[r] + i);
    }
    _mm_storeu_ps(sums, _mm_cvtepu32_ps(over_quarters(quarter_sums(s[0], s[1], s[2], s[3]))));
  }
};

float dot(const float* a, const float* b, std::size_t n) {
  return F32<Sum::dot>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}
float l2(const float* a, const float* b, std::size_t n) {
  return F32<Sum::l2>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}

} // namespace

constinit const Kernels kernels_avx512 = make_kernels<F32, F16, Bf16, S8, I8, I7, U4>("avx512", dot, l2);

} // namespace embedcore::hnsw
