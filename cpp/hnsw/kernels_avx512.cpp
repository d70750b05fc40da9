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

// Sixteen atomic words. Nothing is taken from their order; each is read once, which the compiler has to be
// told: otherwise it may load the vector again, and what was checked is not what is used.
inline __m512i load_links(const std::uint32_t* links) {
  __m512i words = load(links);
#ifndef EMBEDCORE_PLAIN_LINKS
  asm volatile("" : "+v"(words));
#endif
  return _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(slot_bits)));
}

inline std::size_t unseen(const std::uint32_t* links, std::size_t count, std::uint32_t* seen,
                          std::uint32_t limit, std::uint32_t* out) {
#ifdef __SANITIZE_THREAD__ // which takes wide loads of atomic words for races
  return unseen_one_by_one(links, count, seen, limit, out);
#else
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i last = _mm512_set1_epi32(static_cast<int>(limit));
  std::size_t maybe = 0;
  for (std::size_t i = 0; i < count; i += 16) {
    const __m512i to = load_links(links + i);
    const __m512i known = _mm512_min_epu32(to, last);
    const __m512i words = _mm512_i32gather_epi32(_mm512_srli_epi32(known, 5), seen, 4);
    const __m512i bits = _mm512_sllv_epi32(one, _mm512_and_si512(known, _mm512_set1_epi32(31)));
    const __mmask16 fresh = _mm512_testn_epi32_mask(words, bits);
    _mm512_storeu_si512(out + maybe, _mm512_maskz_compress_epi32(fresh, to));
    maybe += static_cast<std::size_t>(__builtin_popcount(fresh));
  }
  // Apart from the loads of the words above, which would wait for these stores. A list that is being changed
  // may name a node twice.
  std::size_t n = 0;
  for (std::size_t i = 0; i < maybe; ++i) {
    const std::uint32_t to = out[i];
    const std::uint32_t word = seen[to >> 5];
    const std::uint32_t bit = std::uint32_t{1} << (to & 31);
    out[n] = to;
    n += (word & bit) == 0 ? 1 : 0;
    seen[to >> 5] = word | bit;
  }
  return n;
#endif
}

inline unsigned not_above(const float* sixteen, float x) {
  const __mmask16 mask = _mm512_cmp_ps_mask(_mm512_loadu_ps(sixteen), _mm512_set1_ps(x), _CMP_LE_OQ);
  return static_cast<unsigned>(__builtin_popcount(mask));
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

  static void sum4(const std::int8_t* q, const Four& rows, std::size_t n, float* sums) {
    __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
    __m512i excess = _mm512_setzero_si512();
    const __m512i bias = _mm512_set1_epi8(static_cast<char>(0x80));
    for (std::size_t i = 0; i < n; i += 64) {
      const __m512i a = load(q + i);
      if constexpr (kind == Sum::dot) excess = _mm512_dpbusd_epi32(excess, bias, a);
      for (std::size_t r = 0; r < 4; ++r) {
        const __m512i b = load(rows.at[r] + i);
        if constexpr (kind == Sum::dot) {
          s[r] = _mm512_dpbusd_epi32(s[r], _mm512_xor_si512(b, bias), a);
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

  // The second 64 dimensions' bits are taken where they lie: sixteen times too large.
  static __m512i both(__m512i first, __m512i second_sixteenfold) {
    return _mm512_add_epi32(first, _mm512_srai_epi32(second_sixteenfold, 4));
  }

  static void part4(const std::int8_t* q, const Four& rows, std::size_t n, std::int32_t* parts) {
    const __m512i low = bit_masks();
    const __m512i high = _mm512_slli_epi16(low, 4);
    __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
    __m512i t[4] = {s[0], s[0], s[0], s[0]};
    for (std::size_t i = 0; i < n; i += 128) {
      const __m512i q0 = load(q + i);
      const __m512i q1 = load(q + i + 64);
      for (std::size_t r = 0; r < 4; ++r) {
        const __m512i h = plane_at(rows.at[r] + i / 8);
        s[r] = _mm512_dpbusd_epi32(s[r], _mm512_and_si512(h, low), q0);
        t[r] = _mm512_dpbusd_epi32(t[r], _mm512_and_si512(h, high), q1);
      }
    }
    const __m512i sums = quarter_sums(both(s[0], t[0]), both(s[1], t[1]), both(s[2], t[2]), both(s[3], t[3]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(parts),
                     over_quarters(_mm512_sllv_epi32(sums, quarters(3, 2, 1, 0))));
  }

  static void rest4(const std::int8_t* q, const Four& rows, std::size_t n, std::int32_t* rests) {
    const __m512i low = bit_masks();
    const __m512i high = _mm512_slli_epi16(low, 4);
    const __m512i low_pairs = byte_quarters(3, 3, 12, 12);
    const __m512i high_pairs = _mm512_slli_epi16(low_pairs, 4);
    const __m512i zero = _mm512_setzero_si512();
    __m512i b0[4] = {zero, zero, zero, zero};
    __m512i b1[4] = {zero, zero, zero, zero};
    __m512i p0[4] = {zero, zero, zero, zero};
    __m512i p1[4] = {zero, zero, zero, zero};
    for (std::size_t i = 0; i < n; i += 128) {
      const __m512i q0 = load(q + i);
      const __m512i q1 = load(q + i + 64);
      for (std::size_t r = 0; r < 4; ++r) {
        const __m512i p = pairs_at(rows.at[r] + n / 8 + i / 4);
        const __m512i l = plane_at(rows.at[r] + n / 8 + n / 4 + i / 8);
        p0[r] = _mm512_dpbusd_epi32(p0[r], _mm512_and_si512(p, low_pairs), q0);
        p1[r] = _mm512_dpbusd_epi32(p1[r], _mm512_and_si512(p, high_pairs), q1);
        b0[r] = _mm512_dpbusd_epi32(b0[r], _mm512_and_si512(l, low), q0);
        b1[r] = _mm512_dpbusd_epi32(b1[r], _mm512_and_si512(l, high), q1);
      }
    }
    const __m512i bits =
        quarter_sums(both(b0[0], b1[0]), both(b0[1], b1[1]), both(b0[2], b1[2]), both(b0[3], b1[3]));
    const __m512i pairs =
        quarter_sums(both(p0[0], p1[0]), both(p0[1], p1[1]), both(p0[2], p1[2]), both(p0[3], p1[3]));
    const __m512i all = _mm512_add_epi32(_mm512_sllv_epi32(pairs, quarters(4, 4, 2, 2)),
                                         _mm512_sllv_epi32(bits, quarters(3, 2, 1, 0)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(rests), _mm_srai_epi32(over_quarters(all), 3));
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

  static __m512i distance_of(__m512i a, __m512i b) { // of unsigned bytes
    return _mm512_or_si512(_mm512_subs_epu8(a, b), _mm512_subs_epu8(b, a));
  }

  static float squares(const std::uint8_t* q, const std::byte* row, std::size_t n) {
    const auto add = [](__m512i a, __m512i b, __m512i sum) { return add_squares(distance_of(a, b), sum); };
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

  static void sum4(const std::int8_t* q, const Four& rows, std::size_t n, float* sums) {
    if constexpr (kind == Sum::dot) {
      std::int32_t parts[4];
      std::int32_t rests[4];
      part4(q, rows, n, parts);
      rest4(q, rows, n, rests);
      for (std::size_t r = 0; r < 4; ++r) sums[r] = static_cast<float>(parts[r] + rests[r]);
    } else {
      squares4(reinterpret_cast<const std::uint8_t*>(q), rows, n, sums);
    }
  }

  static void squares4(const std::uint8_t* q, const Four& rows, std::size_t n, float* sums) {
    __m512i s[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
    for (std::size_t i = 0; i < n; i += 128) {
      const __m512i q0 = load(q + i);
      const __m512i q1 = load(q + i + 64);
      for (std::size_t r = 0; r < 4; ++r) {
        const __m512i h = plane_at(rows.at[r] + i / 8);
        const __m512i p = pairs_at(rows.at[r] + n / 8 + i / 4);
        const __m512i l = plane_at(rows.at[r] + n / 8 + n / 4 + i / 8);
        s[r] = add_squares(distance_of(q0, values(h, p, l)), s[r]);
        s[r] = add_squares(distance_of(q1, values(second(h), second(p), second(l))), s[r]);
      }
    }
    _mm_storeu_ps(sums, _mm_cvtepu32_ps(over_quarters(quarter_sums(s[0], s[1], s[2], s[3]))));
  }

  static void unpack(const std::byte* row, std::size_t n, std::uint8_t* out) {
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    for (std::size_t i = 0; i < n; i += 128, row += 16, pairs += 32, last += 16) {
      const __m512i h = plane_at(row);
      const __m512i p = pairs_at(pairs);
      const __m512i l = plane_at(last);
      _mm512_storeu_si512(out + i, values(h, p, l));
      _mm512_storeu_si512(out + i + 64, values(second(h), second(p), second(l)));
    }
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
