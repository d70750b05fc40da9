// AVX-512 kernels: F, BW, VL, DQ and VNNI, as of Ice Lake and Zen 4. Entered only after runs_here(); see
// walk_loop.h for why everything is in an unnamed namespace.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized" // GCC bug 105593: a false alarm inside immintrin.h
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "hnsw/walk_loop.h"

namespace embedcore::hnsw {

namespace {

// Of a wrapped sum: signed for dot, unsigned for squares, which never wrap.
template <Sum kind>
inline float total(__m512i v) {
  const std::int32_t sum = _mm512_reduce_add_epi32(v);
  return kind == Sum::dot ? static_cast<float>(sum) : static_cast<float>(static_cast<std::uint32_t>(sum));
}

inline __m512i load(const void* at) { return _mm512_loadu_si512(at); }

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

struct FloatRow {
  using Query = float;
};
struct ByteRow {
  using Query = std::int8_t;
};

template <Sum kind>
struct F32 : FloatRow {
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    const auto* r = reinterpret_cast<const float*>(row);
    return float_sum<kind>(
        q, n, [=](std::size_t i) { return _mm512_loadu_ps(r + i); },
        [=](std::size_t i, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, r + i); });
  }
};

inline __m256i halves(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

template <Sum kind>
struct F16 : FloatRow {
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

// Squares of 64 unsigned bytes. vpdpbusd would take one factor as signed, so they are widened.
inline __m512i add_squares(__m512i bytes, __m512i sum) {
  const __m512i even = _mm512_and_si512(bytes, _mm512_set1_epi16(0xFF));
  const __m512i odd = _mm512_srli_epi16(bytes, 8);
  return _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(sum, even, even), odd, odd);
}

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
        s = _mm512_dpbusd_epi32(s, _mm512_xor_si512(b, bias), a);
        excess = _mm512_dpbusd_epi32(excess, bias, a);
      } else {
        s = add_squares(_mm512_sub_epi8(_mm512_max_epi8(a, b), _mm512_min_epi8(a, b)), s);
      }
    }
    return total<kind>(_mm512_sub_epi32(s, excess));
  }
};

// A 32-bit value in all of each quarter; of bytes alike, and of 16-bit values alike.
inline __m512i quarters(int a, int b, int c, int d) {
  return _mm512_set_epi32(d, d, d, d, c, c, c, c, b, b, b, b, a, a, a, a);
}
inline __m512i byte_quarters(int a, int b, int c, int d) {
  return quarters(a * 0x01010101, b * 0x01010101, c * 0x01010101, d * 0x01010101);
}
inline __m512i half_quarters(int a, int b, int c, int d) {
  return quarters(a * 0x00010001, b * 0x00010001, c * 0x00010001, d * 0x00010001);
}

// 128 dimensions of a plane of bits, and of the pairs: once in every quarter, in either half.
inline __m512i plane_at(const std::byte* at) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}
inline __m512i pairs_at(const std::byte* at) { return _mm512_broadcast_i64x4(halves(at)); }

// What belongs to the second 64 of the 128 dimensions, moved to where that of the first lies.
inline __m512i second(__m512i v) { return _mm512_srli_epi16(v, 4); }

template <Sum kind>
struct U4 : ByteRow {
  // Bits are weights as they lie, 1 to 8 by quarters, and the pairs are threes and twelves by halves; what
  // they lack to the same weight is made up at the end.
  static __m512i bit_masks() { return byte_quarters(1, 2, 4, 8); }
  static __m512i eightfold(__m512i sums) { return _mm512_mullo_epi32(sums, quarters(8, 4, 2, 1)); }

  static std::int32_t part(const std::int8_t* q, const std::byte* row, std::size_t n) {
    const __m512i masks = bit_masks();
    __m512i s0 = _mm512_setzero_si512();
    __m512i s1 = s0;
    for (std::size_t i = 0; i < n; i += 128, row += 16) {
      const __m512i h = plane_at(row);
      s0 = _mm512_dpbusd_epi32(s0, _mm512_and_si512(h, masks), load(q + i));
      s1 = _mm512_dpbusd_epi32(s1, _mm512_and_si512(second(h), masks), load(q + i + 64));
    }
    return _mm512_reduce_add_epi32(eightfold(_mm512_add_epi32(s0, s1)));
  }

  static std::int32_t rest(const std::int8_t* q, const std::byte* row, std::size_t n) {
    const __m512i masks = bit_masks();
    const __m512i pair_masks = byte_quarters(3, 3, 12, 12);
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    __m512i bits0 = _mm512_setzero_si512();
    __m512i bits1 = bits0;
    __m512i pairs0 = bits0;
    __m512i pairs1 = bits0;
    for (std::size_t i = 0; i < n; i += 128, pairs += 32, last += 16) {
      const __m512i q0 = load(q + i);
      const __m512i q1 = load(q + i + 64);
      const __m512i p = pairs_at(pairs);
      const __m512i l = plane_at(last);
      pairs0 = _mm512_dpbusd_epi32(pairs0, _mm512_and_si512(p, pair_masks), q0);
      pairs1 = _mm512_dpbusd_epi32(pairs1, _mm512_and_si512(second(p), pair_masks), q1);
      bits0 = _mm512_dpbusd_epi32(bits0, _mm512_and_si512(l, masks), q0);
      bits1 = _mm512_dpbusd_epi32(bits1, _mm512_and_si512(second(l), masks), q1);
    }
    // Pairs count double, so sixteenfold beside eightfold bits; at n = 65,536 that is less than 2^29.
    const __m512i all =
        _mm512_add_epi32(_mm512_mullo_epi32(_mm512_add_epi32(pairs0, pairs1), quarters(16, 16, 4, 4)),
                         eightfold(_mm512_add_epi32(bits0, bits1)));
    return _mm512_reduce_add_epi32(all) / 8; // which is exact
  }

  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    if constexpr (kind == Sum::dot) {
      return static_cast<float>(part(q, row, n) + rest(q, row, n));
    } else {
      return squares(reinterpret_cast<const std::uint8_t*>(q), row, n);
    }
  }

  // 64 dimensions of 16 u: bit 3 to 128, the pair to 32 and 64, bit 0 to 16. What the shifts carry from one
  // byte into the next is masked off.
  static __m512i values(__m512i high, __m512i pairs, __m512i low) {
    const __m512i top = _mm512_and_si512(_mm512_sllv_epi16(high, half_quarters(7, 6, 5, 4)),
                                         _mm512_set1_epi8(static_cast<char>(128)));
    const __m512i middle =
        _mm512_and_si512(_mm512_sllv_epi16(pairs, half_quarters(5, 5, 3, 3)), _mm512_set1_epi8(96));
    const __m512i bottom =
        _mm512_and_si512(_mm512_sllv_epi16(low, half_quarters(4, 3, 2, 1)), _mm512_set1_epi8(16));
    return _mm512_or_si512(_mm512_or_si512(top, middle), bottom);
  }

  static float squares(const std::uint8_t* q, const std::byte* row, std::size_t n) {
    const auto add = [](__m512i a, __m512i b, __m512i sum) {
      return add_squares(_mm512_or_si512(_mm512_subs_epu8(a, b), _mm512_subs_epu8(b, a)), sum);
    };
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    __m512i s0 = _mm512_setzero_si512();
    __m512i s1 = s0;
    for (std::size_t i = 0; i < n; i += 128, row += 16, pairs += 32, last += 16) {
      const __m512i h = plane_at(row);
      const __m512i p = pairs_at(pairs);
      const __m512i l = plane_at(last);
      s0 = add(load(q + i), values(h, p, l), s0);
      s1 = add(load(q + i + 64), values(second(h), second(p), second(l)), s1);
    }
    return total<Sum::l2>(_mm512_add_epi32(s0, s1));
  }
};

float dot(const float* a, const float* b, std::size_t n) {
  return F32<Sum::dot>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}
float l2(const float* a, const float* b, std::size_t n) {
  return F32<Sum::l2>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}

} // namespace

constinit const Kernels kernels_avx512 = make_kernels<F32, F16, Bf16, S8, I8, U4>("avx512", dot, l2);

} // namespace embedcore::hnsw
