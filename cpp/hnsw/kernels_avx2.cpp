// AVX2 kernels, with FMA and F16C. Entered only after runs_here(); see walk_loop.h for why everything is in
// an unnamed namespace.
#include <immintrin.h>

#include "hnsw/walk_loop.h"

namespace embedcore::hnsw {

namespace {

inline float horizontal(__m256 v) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

inline std::uint32_t horizontal(__m256i v) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(four));
}

// Of a wrapped sum: signed for dot, unsigned for squares, which never wrap.
template <Sum kind>
inline float total(__m256i v) {
  const std::uint32_t sum = horizontal(v);
  return kind == Sum::dot ? static_cast<float>(static_cast<std::int32_t>(sum)) : static_cast<float>(sum);
}

inline __m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }

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

inline std::size_t unseen(const std::uint32_t* links, std::size_t count, std::uint32_t* seen,
                          std::uint32_t limit, std::uint32_t* out) {
  return unseen_one_by_one(links, count, seen, limit, out);
}

inline std::size_t insert(Walk& w, float distance, std::uint32_t slot) {
  return insert_by_rank(w, distance, slot);
}

inline std::uint32_t not_above(const float* sixteen, float x) {
  const __m256 bound = _mm256_set1_ps(x);
  const auto mask = [&](const float* eight) {
    return static_cast<unsigned>(
        _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(eight), bound, _CMP_LE_OQ)));
  };
  return mask(sixteen) | mask(sixteen + 8) << 8;
}

struct FloatRow {
  using Query = float;
};
struct ByteRow {
  using Query = std::int8_t;
};

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

float dot(const float* a, const float* b, std::size_t n) {
  return F32<Sum::dot>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}
float l2(const float* a, const float* b, std::size_t n) {
  return F32<Sum::l2>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}

} // namespace

constinit const Kernels kernels_avx2 = make_kernels<F32, F16, Bf16, S8, I8, U4>("avx2", dot, l2);

} // namespace embedcore::hnsw
