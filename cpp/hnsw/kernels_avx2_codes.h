// Rows of codes under AVX2: Form::i8, i7 and u4; kernel_set.h says how they lie.
#pragma once

#include "hnsw/kernels_avx2_base.h"

namespace embedcore::hnsw {

namespace {

// Sums of squares of 32 differences of bytes.
inline __m256i add_squares(__m256i difference, __m256i sum) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i low = _mm256_unpacklo_epi8(difference, zero);
  const __m256i high = _mm256_unpackhi_epi8(difference, zero);
  return _mm256_add_epi32(sum, _mm256_add_epi32(_mm256_madd_epi16(low, low), _mm256_madd_epi16(high, high)));
}

template <Sum kind>
struct I8 : ByteRow {
  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i s0 = _mm256_setzero_si256();
    __m256i s1 = s0;
    const auto add = [ones](__m256i a, __m256i b, __m256i sum) {
      if constexpr (kind == Sum::dot) {
        // |a| * (b with the sign of a): two products of at most 127^2 each fit 16 bits.
        const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(a), _mm256_sign_epi8(b, a));
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
      } else {
        return add_squares(_mm256_sub_epi8(_mm256_max_epi8(a, b), _mm256_min_epi8(a, b)), sum);
      }
    };
    for (std::size_t i = 0; i < n; i += 64) {
      s0 = add(load(q + i), load(row + i), s0);
      s1 = add(load(q + i + 32), load(row + i + 32), s1);
    }
    return total<kind>(_mm256_add_epi32(s0, s1));
  }
};

template <Sum kind>
struct I7 : I8<kind> {};
template <>
struct I7<Sum::l2> : ByteRow {
  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i s0 = _mm256_setzero_si256();
    __m256i s1 = s0;
    const auto add = [ones](__m256i a, __m256i b, __m256i sum) {
      // Two squares of at most 126 fit 16 bits.
      const __m256i difference = _mm256_abs_epi8(_mm256_sub_epi8(a, b));
      return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(difference, difference), ones));
    };
    for (std::size_t i = 0; i < n; i += 64) {
      s0 = add(load(q + i), load(row + i), s0);
      s1 = add(load(q + i + 32), load(row + i + 32), s1);
    }
    return total<Sum::l2>(_mm256_add_epi32(s0, s1));
  }
};

// Of 16 bytes of a bit plane in both halves: 32 dimensions as all ones or zero. which: 0..3.
template <int which>
inline __m256i bits(__m256i plane) {
  const __m256i wanted = _mm256_set_m128i(_mm_set1_epi8(static_cast<char>(1 << (2 * which + 1))),
                                          _mm_set1_epi8(static_cast<char>(1 << (2 * which))));
  return _mm256_cmpeq_epi8(_mm256_and_si256(plane, wanted), wanted);
}

inline __m256i plane_at(const std::byte* at) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}

// The bit planes are read in blocks of 128 dimensions.
template <Sum kind>
struct U4 : ByteRow {
  // Eight times the sum of the query where the plane has ones. The bits are weights as they lie, 1 to 8 in
  // the low and in the high half of each byte; what they lack to 8 is made up at the end.
  static __m256i eightfold(const std::int8_t* q, const std::byte* at) {
    const __m256i ones_twos = _mm256_set_m128i(_mm_set1_epi8(2), _mm_set1_epi8(1));
    const __m256i fours_eights = _mm256_set_m128i(_mm_set1_epi8(8), _mm_set1_epi8(4));
    const __m256i low = plane_at(at);
    const __m256i high = _mm256_srli_epi16(low, 4);
    // Sums of four products of at most 2 * 127 or 8 * 127 fit 16 bits.
    const __m256i x = _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(low, ones_twos), load(q)),
                                       _mm256_maddubs_epi16(_mm256_and_si256(high, ones_twos), load(q + 64)));
    const __m256i y =
        _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(low, fours_eights), load(q + 32)),
                         _mm256_maddubs_epi16(_mm256_and_si256(high, fours_eights), load(q + 96)));
    const __m256i for_x = _mm256_set_m128i(_mm_set1_epi16(4), _mm_set1_epi16(8));
    const __m256i for_y = _mm256_set_m128i(_mm_set1_epi16(1), _mm_set1_epi16(2));
    return _mm256_add_epi32(_mm256_madd_epi16(x, for_x), _mm256_madd_epi16(y, for_y));
  }

  static std::int32_t part(const std::int8_t* q, const std::byte* row, std::size_t n) {
    __m256i s = _mm256_setzero_si256();
    for (std::size_t i = 0; i < n; i += 128, row += 16) s = _mm256_add_epi32(s, eightfold(q + i, row));
    return static_cast<std::int32_t>(horizontal(s));
  }

  static std::int32_t rest(const std::int8_t* q, const std::byte* row, std::size_t n) {
    const __m256i twos = _mm256_set1_epi16(2);
    const __m256i three = _mm256_set1_epi8(3);
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    __m256i s = _mm256_setzero_si256();
    __m256i eights = s;
    for (std::size_t i = 0; i < n; i += 128, pairs += 32, last += 16) {
      const __m256i p = load(pairs);
      // Four sums of two products of at most 3 * 127 fit 16 bits.
      const __m256i low = _mm256_add_epi16(
          _mm256_maddubs_epi16(_mm256_and_si256(p, three), load(q + i)),
          _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(p, 2), three), load(q + i + 32)));
      const __m256i high = _mm256_add_epi16(
          _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(p, 4), three), load(q + i + 64)),
          _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(p, 6), three), load(q + i + 96)));
      s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_add_epi16(low, high), twos));
      eights = _mm256_add_epi32(eights, eightfold(q + i, last));
    }
    return static_cast<std::int32_t>(horizontal(_mm256_add_epi32(s, _mm256_srai_epi32(eights, 3))));
  }

  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    if constexpr (kind == Sum::dot) {
      return static_cast<float>(part(q, row, n) + rest(q, row, n));
    } else {
      return squares(reinterpret_cast<const std::uint8_t*>(q), row, n);
    }
  }

  // 32 dimensions of 16 u: bit 3 to 128, the pair to 32 and 64, bit 0 to 16.
  template <int which>
  static __m256i values(__m256i high, __m256i pairs, __m256i low) {
    const __m256i top = _mm256_and_si256(bits<which>(high), _mm256_set1_epi8(static_cast<char>(128)));
    const __m256i bottom = _mm256_and_si256(bits<which>(low), _mm256_set1_epi8(16));
    const __m256i shifted = which == 0   ? _mm256_slli_epi16(pairs, 5)
                            : which == 1 ? _mm256_slli_epi16(pairs, 3)
                            : which == 2 ? _mm256_slli_epi16(pairs, 1)
                                         : _mm256_srli_epi16(pairs, 1);
    const __m256i middle = _mm256_and_si256(shifted, _mm256_set1_epi8(96));
    return _mm256_or_si256(_mm256_or_si256(top, bottom), middle);
  }

  static float squares(const std::uint8_t* q, const std::byte* row, std::size_t n) {
    const auto add = [](__m256i a, __m256i b, __m256i sum) {
      return add_squares(_mm256_or_si256(_mm256_subs_epu8(a, b), _mm256_subs_epu8(b, a)), sum);
    };
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    __m256i s0 = _mm256_setzero_si256();
    __m256i s1 = s0;
    for (std::size_t i = 0; i < n; i += 128, row += 16, pairs += 32, last += 16) {
      const __m256i h = plane_at(row);
      const __m256i p = load(pairs);
      const __m256i l = plane_at(last);
      s0 = add(load(q + i), values<0>(h, p, l), s0);
      s1 = add(load(q + i + 32), values<1>(h, p, l), s1);
      s0 = add(load(q + i + 64), values<2>(h, p, l), s0);
      s1 = add(load(q + i + 96), values<3>(h, p, l), s1);
    }
    return total<Sum::l2>(_mm256_add_epi32(s0, s1));
  }

  static void unpack(const std::byte* row, std::size_t n, std::uint8_t* out) {
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    const auto store = [](std::uint8_t* at, __m256i v) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), v);
    };
    for (std::size_t i = 0; i < n; i += 128, row += 16, pairs += 32, last += 16) {
      const __m256i h = plane_at(row);
      const __m256i p = load(pairs);
      const __m256i l = plane_at(last);
      store(out + i, values<0>(h, p, l));
      store(out + i + 32, values<1>(h, p, l));
      store(out + i + 64, values<2>(h, p, l));
      store(out + i + 96, values<3>(h, p, l));
    }
  }
};

} // namespace

} // namespace embedcore::hnsw
