// Rows of int4 codes under AVX-512; Form::u4 in kernel_set.h says how they lie.
#pragma once

#include "hnsw/kernels_avx512_base.h"

namespace embedcore::hnsw {

namespace {

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
      s0 = add_bytes(s0, _mm512_and_si512(h, masks), load(q + i));
      s1 = add_bytes(s1, _mm512_and_si512(second(h), masks), load(q + i + 64));
    }
    return sum_of(eightfold(_mm512_add_epi32(s0, s1)));
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
      pairs0 = add_bytes(pairs0, _mm512_and_si512(p, pair_masks), q0);
      pairs1 = add_bytes(pairs1, _mm512_and_si512(second(p), pair_masks), q1);
      bits0 = add_bytes(bits0, _mm512_and_si512(l, masks), q0);
      bits1 = add_bytes(bits1, _mm512_and_si512(second(l), masks), q1);
    }
    // Pairs count double, so sixteenfold beside eightfold bits; at n = 65,536 that is less than 2^29.
    const __m512i all =
        _mm512_add_epi32(_mm512_mullo_epi32(_mm512_add_epi32(pairs0, pairs1), quarters(16, 16, 4, 4)),
                         eightfold(_mm512_add_epi32(bits0, bits1)));
    return sum_of(all) / 8; // which is exact
  }

  // The second 64 dimensions' bits are taken where they lie: sixteen times too large.
  static __m512i both(__m512i first, __m512i second_sixteenfold) {
    return _mm512_add_epi32(first, _mm512_srai_epi32(second_sixteenfold, 4));
  }

  static __m128i part4(const std::int8_t* q, const Four& rows, std::size_t n) {
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
        s[r] = add_bytes(s[r], _mm512_and_si512(h, low), q0);
        t[r] = add_bytes(t[r], _mm512_and_si512(h, high), q1);
      }
    }
    const __m512i sums = quarter_sums(both(s[0], t[0]), both(s[1], t[1]), both(s[2], t[2]), both(s[3], t[3]));
    return over_quarters(_mm512_sllv_epi32(sums, quarters(3, 2, 1, 0)));
  }

  static __m128i rest4(const std::int8_t* q, const Four& rows, std::size_t n) {
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
        p0[r] = add_bytes(p0[r], _mm512_and_si512(p, low_pairs), q0);
        p1[r] = add_bytes(p1[r], _mm512_and_si512(p, high_pairs), q1);
        b0[r] = add_bytes(b0[r], _mm512_and_si512(l, low), q0);
        b1[r] = add_bytes(b1[r], _mm512_and_si512(l, high), q1);
      }
    }
    const __m512i bits =
        quarter_sums(both(b0[0], b1[0]), both(b0[1], b1[1]), both(b0[2], b1[2]), both(b0[3], b1[3]));
    const __m512i pairs =
        quarter_sums(both(p0[0], p1[0]), both(p0[1], p1[1]), both(p0[2], p1[2]), both(p0[3], p1[3]));
    const __m512i all = _mm512_add_epi32(_mm512_sllv_epi32(pairs, quarters(4, 4, 2, 2)),
                                         _mm512_sllv_epi32(bits, quarters(3, 2, 1, 0)));
    return _mm_srai_epi32(over_quarters(all), 3);
  }

  // See judge() and complete() in walk_loop.h.
  static std::size_t judge4(const std::int8_t* q, const Four& rows, std::size_t n, const std::uint32_t* slots,
                            std::size_t count, float least, std::uint32_t* kept, std::int32_t* parts) {
    const __m128i sums = part4(q, rows, n);
    const __mmask8 there = static_cast<__mmask8>(count < 4 ? (1u << count) - 1 : 15u);
    const __mmask8 passed =
        _mm_mask_cmp_ps_mask(there, _mm_cvtepi32_ps(sums), _mm_set1_ps(least), _CMP_GT_OQ);
    const __m128i numbers = _mm_maskz_loadu_epi32(there, slots);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(kept), _mm_maskz_compress_epi32(passed, numbers));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(parts), _mm_maskz_compress_epi32(passed, sums));
    return static_cast<std::size_t>(__builtin_popcount(passed));
  }
  static void complete4(const std::int8_t* q, const Four& rows, std::size_t n, const std::int32_t* parts,
                        float offset, float scale, float* distances) {
    const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(parts));
    const __m128 sums = _mm_cvtepi32_ps(_mm_add_epi32(first, rest4(q, rows, n)));
    _mm_storeu_ps(distances, _mm_add_ps(_mm_set1_ps(offset), _mm_mul_ps(_mm_set1_ps(scale), sums)));
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
      _mm_storeu_ps(sums, _mm_cvtepi32_ps(_mm_add_epi32(part4(q, rows, n), rest4(q, rows, n))));
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

} // namespace

} // namespace embedcore::hnsw
