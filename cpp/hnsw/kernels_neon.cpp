// NEON kernels: what every 64-bit ARM processor has, so without the dot product extension. See walk_loop.h
// for why everything is in an unnamed namespace.
#include <arm_neon.h>

#include "hnsw/walk_loop.h"

namespace embedcore::hnsw {

namespace {

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

// Of sixteen places, those for whose four (of masks) is says so.
template <class Is>
inline std::uint32_t which(Is is) {
  const std::uint32_t places[4] = {1, 2, 4, 8};
  std::uint32_t bits = 0;
  for (unsigned i = 0; i < 16; i += 4) bits |= vaddvq_u32(vandq_u32(is(i), vld1q_u32(places))) << i;
  return bits;
}
inline std::uint32_t not_above(const float* sixteen, float x) {
  return which([=](unsigned i) { return vcleq_f32(vld1q_f32(sixteen + i), vdupq_n_f32(x)); });
}
inline std::uint32_t below(const float* sixteen, float x) {
  return which([=](unsigned i) { return vcltq_f32(vld1q_f32(sixteen + i), vdupq_n_f32(x)); });
}
inline std::uint32_t not_expanded(const std::uint32_t* sixteen) {
  return which([=](unsigned i) { return vcltq_u32(vld1q_u32(sixteen + i), vdupq_n_u32(expanded)); });
}

struct Eight { // values
  float32x4_t low;
  float32x4_t high;
};

// By bytes, so that a row may lie at any address.
inline uint8x16_t load(const void* at) { return vld1q_u8(static_cast<const std::uint8_t*>(at)); }

template <Sum kind>
inline float32x4_t step(float32x4_t a, float32x4_t b, float32x4_t sum) {
  if constexpr (kind == Sum::dot) return vfmaq_f32(sum, a, b);
  const float32x4_t d = vsubq_f32(a, b);
  return vfmaq_f32(sum, d, d);
}

template <Sum kind>
inline void add(const Eight& a, const Eight& b, Eight& sum) {
  sum.low = step<kind>(a.low, b.low, sum.low);
  sum.high = step<kind>(a.high, b.high, sum.high);
}

inline Eight plus(const Eight& a, const Eight& b) {
  return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
}

inline Eight floats(const void* at) {
  const auto* bytes = static_cast<const std::byte*>(at);
  return {vreinterpretq_f32_u8(load(bytes)), vreinterpretq_f32_u8(load(bytes + 16))};
}

inline Eight from_half(const void* at) {
  const float16x8_t halves = vreinterpretq_f16_u8(load(at));
  return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
}

inline Eight from_bfloat16(const void* at) {
  const uint16x8_t halves = vreinterpretq_u16_u8(load(at));
  const uint16x8_t zero = vdupq_n_u16(0);
  return {vreinterpretq_f32_u16(vzip1q_u16(zero, halves)), vreinterpretq_f32_u16(vzip2q_u16(zero, halves))};
}

inline Eight from_bytes(const std::byte* at) {
  const int16x8_t values = vmovl_s8(vreinterpret_s8_u8(vld1_u8(reinterpret_cast<const std::uint8_t*>(at))));
  return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(values))), vcvtq_f32_s32(vmovl_high_s16(values))};
}

// The last values, fewer than eight of them, and zeros; nothing beyond them is read.
template <Eight (*convert)(const void*), std::size_t value_bytes>
inline Eight last(const void* at, std::size_t left) {
  alignas(16) std::byte copy[8 * value_bytes] = {};
  __builtin_memcpy(copy, at, left * value_bytes);
  return convert(copy);
}

// Rows of floats in any form: Load gives eight values from position i on.
template <Sum kind, class Load, class Tail>
inline float float_sum(const float* q, std::size_t n, Load at, Tail tail) {
  const Eight zero{vdupq_n_f32(0), vdupq_n_f32(0)};
  Eight s0 = zero;
  Eight s1 = zero;
  Eight s2 = zero;
  Eight s3 = zero;
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    add<kind>(floats(q + i), at(i), s0);
    add<kind>(floats(q + i + 8), at(i + 8), s1);
    add<kind>(floats(q + i + 16), at(i + 16), s2);
    add<kind>(floats(q + i + 24), at(i + 24), s3);
  }
  for (; i + 8 <= n; i += 8) add<kind>(floats(q + i), at(i), s0);
  if (i < n) add<kind>(last<floats, 4>(q + i, n - i), tail(i, n - i), s1);
  const Eight sum = plus(plus(s0, s1), plus(s2, s3));
  return vaddvq_f32(vaddq_f32(sum.low, sum.high));
}

struct FloatRow {
  using Query = float;
};
struct ByteRow {
  using Query = std::int8_t;
};

template <Sum kind, Eight (*convert)(const void*), std::size_t value_bytes>
struct PlainRow : FloatRow {
  static constexpr std::size_t bytes = value_bytes; // of a value
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    return float_sum<kind>(
        q, n, [=](std::size_t i) { return convert(row + value_bytes * i); },
        [=](std::size_t i, std::size_t left) {
          return last<convert, value_bytes>(row + value_bytes * i, left);
        });
  }
};

template <Sum kind>
struct F32 : PlainRow<kind, floats, 4> {};
template <Sum kind>
struct F16 : PlainRow<kind, from_half, 2> {};
template <Sum kind>
struct Bf16 : PlainRow<kind, from_bfloat16, 2> {};

template <Sum kind>
struct S8 : FloatRow {
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    const float unit = kind == Sum::dot ? 1.0f : float_at(row + (n + 63) / 64 * 64);
    // Rows are padded with zeros to a multiple of 64, so eight bytes may always be read.
    const auto at = [=](std::size_t i) {
      const Eight values = from_bytes(row + i);
      if constexpr (kind == Sum::dot) return values;
      return Eight{vmulq_n_f32(values.low, unit), vmulq_n_f32(values.high, unit)};
    };
    return float_sum<kind>(q, n, at, [=](std::size_t i, std::size_t) { return at(i); });
  }
};

inline int8x16_t signed_bytes(uint8x16_t v) { return vreinterpretq_s8_u8(v); }

inline uint32x4_t add_squares(uint8x16_t d, uint32x4_t sum) {
  const uint8x8_t low = vget_low_u8(d);
  return vpadalq_u16(vpadalq_u16(sum, vmull_u8(low, low)), vmull_high_u8(d, d));
}

template <Sum kind>
struct I8 : ByteRow {
  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    int32x4_t dots[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    uint32x4_t squares[2] = {vdupq_n_u32(0), vdupq_n_u32(0)};
    for (std::size_t i = 0; i < n; i += 64) {
      for (std::size_t j = 0; j < 4; ++j) {
        const int8x16_t a = signed_bytes(load(q + i + 16 * j));
        const int8x16_t b = signed_bytes(load(row + i + 16 * j));
        if constexpr (kind == Sum::dot) {
          // Two products of at most 127^2 each fit 16 bits.
          const int16x8_t products = vmull_s8(vget_low_s8(a), vget_low_s8(b));
          dots[j % 2] = vpadalq_s16(dots[j % 2], vmlal_high_s8(products, a, b));
        } else {
          squares[j % 2] = add_squares(vreinterpretq_u8_s8(vabdq_s8(a, b)), squares[j % 2]);
        }
      }
    }
    if constexpr (kind == Sum::dot) return static_cast<float>(vaddvq_s32(vaddq_s32(dots[0], dots[1])));
    return static_cast<float>(vaddvq_u32(vaddq_u32(squares[0], squares[1])));
  }
};

// Whose differences fit a byte; absolute ones are as cheap here.
template <Sum kind>
struct I7 : I8<kind> {};

// Bytes of ones where bit `which` of a byte is set.
inline uint8x16_t bits(uint8x16_t plane, int which) {
  return vtstq_u8(plane, vdupq_n_u8(static_cast<std::uint8_t>(1 << which)));
}

// Left, or right where `by` is negative.
inline uint8x16_t shift(uint8x16_t v, int by) {
  return vshlq_u8(v, vdupq_n_s8(static_cast<std::int8_t>(by)));
}

// The bit planes are read in blocks of 128 dimensions, sixteen at a time: bit g of a byte and pair g / 2.
template <Sum kind>
struct U4 : ByteRow {
  static std::int32_t part(const std::int8_t* q, const std::byte* row, std::size_t n) {
    int32x4_t s = vdupq_n_s32(0);
    for (std::size_t i = 0; i < n; i += 128, row += 16) {
      const uint8x16_t h = load(row);
      int16x8_t block = vdupq_n_s16(0); // 16 bytes of the query in each lane
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) {
        block = vpadalq_s8(block, signed_bytes(vandq_u8(bits(h, g), load(q + i + 16 * g))));
      }
      s = vpadalq_s16(s, block);
    }
    return 8 * vaddvq_s32(s);
  }

  static std::int32_t rest(const std::int8_t* q, const std::byte* row, std::size_t n) {
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    int32x4_t s = vdupq_n_s32(0);
    for (std::size_t i = 0; i < n; i += 128, pairs += 32, last += 16) {
      const uint8x16_t p[2] = {load(pairs), load(pairs + 16)};
      const uint8x16_t l = load(last);
      int16x8_t block = vdupq_n_s16(0); // 16 products of at most 7 * 127 in each lane
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) {
        // Twice the pair, and a mask of ones is -1.
        const uint8x16_t twice = vandq_u8(shift(p[g % 2], 1 - g / 2 * 2), vdupq_n_u8(6));
        const int8x16_t u = signed_bytes(vsubq_u8(twice, bits(l, g)));
        const int8x16_t a = signed_bytes(load(q + i + 16 * g));
        block = vmlal_high_s8(vmlal_s8(block, vget_low_s8(u), vget_low_s8(a)), u, a);
      }
      s = vpadalq_s16(s, block);
    }
    return vaddvq_s32(s);
  }

  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    if constexpr (kind == Sum::dot) {
      return static_cast<float>(part(q, row, n) + rest(q, row, n));
    } else {
      return squares(reinterpret_cast<const std::uint8_t*>(q), row, n);
    }
  }

  static float squares(const std::uint8_t* q, const std::byte* row, std::size_t n) {
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    uint32x4_t s[2] = {vdupq_n_u32(0), vdupq_n_u32(0)};
    for (std::size_t i = 0; i < n; i += 128, row += 16, pairs += 32, last += 16) {
      const uint8x16_t h = load(row);
      const uint8x16_t p[2] = {load(pairs), load(pairs + 16)};
      const uint8x16_t l = load(last);
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) {
        // 16 u: bit 3 to 128, the pair to 32 and 64, bit 0 to 16.
        const uint8x16_t top = vandq_u8(bits(h, g), vdupq_n_u8(128));
        const uint8x16_t middle = vandq_u8(shift(p[g % 2], 5 - g / 2 * 2), vdupq_n_u8(96));
        const uint8x16_t bottom = vandq_u8(bits(l, g), vdupq_n_u8(16));
        const uint8x16_t value = vorrq_u8(vorrq_u8(top, middle), bottom);
        s[g % 2] = add_squares(vabdq_u8(load(q + i + 16 * g), value), s[g % 2]);
      }
    }
    return static_cast<float>(vaddvq_u32(vaddq_u32(s[0], s[1])));
  }
};

float dot(const float* a, const float* b, std::size_t n) {
  return F32<Sum::dot>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}
float l2(const float* a, const float* b, std::size_t n) {
  return F32<Sum::l2>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}

} // namespace

constinit const Kernels kernels_neon = make_kernels<F32, F16, Bf16, S8, I8, I7, U4>("neon", dot, l2);

} // namespace embedcore::hnsw
