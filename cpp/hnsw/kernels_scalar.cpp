// Kernels for any processor. Eight partial sums, so that additions do not wait for one another.
#include "hnsw/walk_loop.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t lanes = 8;

// The sum of term(i) over n.
template <class Term>
inline float float_sum(std::size_t n, Term term) {
  float partial[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::size_t j = 0; j < lanes; ++j) partial[j] += term(i + j);
  }
  for (std::size_t j = 0; i < n; ++i, ++j) partial[j] += term(i);
  return ((partial[0] + partial[4]) + (partial[1] + partial[5])) +
         ((partial[2] + partial[6]) + (partial[3] + partial[7]));
}

template <Sum sum_kind>
inline float pair(float a, float b) {
  return sum_kind == Sum::dot ? a * b : (a - b) * (a - b);
}

inline float as_float(std::uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

inline std::uint16_t half_at(const std::byte* row, std::size_t i) {
  std::uint16_t bits;
  __builtin_memcpy(&bits, row + 2 * i, sizeof(bits));
  return bits;
}

inline float from_half(std::uint16_t half) {
  const std::uint32_t rest = half & 0x7FFFu;
  // The exponent is rebased by one exact multiplication, which makes subnormals normal as well.
  const float magnitude =
      rest >= 0x7C00u ? as_float(0x7F800000u | (rest & 0x3FFu) << 13) : as_float(rest << 13) * 0x1.0p112f;
  return (half & 0x8000u) != 0 ? -magnitude : magnitude;
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

template <class Is>
inline std::uint32_t which(Is is) { // of sixteen places
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < 16; ++i) bits |= (is(i) ? 1u : 0u) << i;
  return bits;
}
inline std::uint32_t not_above(const float* sixteen, float x) {
  return which([=](std::size_t i) { return sixteen[i] <= x; });
}
inline std::uint32_t below(const float* sixteen, float x) {
  return which([=](std::size_t i) { return sixteen[i] < x; });
}
inline std::uint32_t not_expanded(const std::uint32_t* sixteen) {
  return which([=](std::size_t i) { return (sixteen[i] & expanded) == 0; });
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
    return float_sum(n, [=](std::size_t i) { return pair<kind>(q[i], float_at(row + 4 * i)); });
  }
};

template <Sum kind>
struct F16 : FloatRow {
  static constexpr std::size_t bytes = 2; // of a value
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    return float_sum(n, [=](std::size_t i) { return pair<kind>(q[i], from_half(half_at(row, i))); });
  }
};

template <Sum kind>
struct Bf16 : FloatRow {
  static constexpr std::size_t bytes = 2; // of a value
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    return float_sum(n, [=](std::size_t i) {
      return pair<kind>(q[i], as_float(static_cast<std::uint32_t>(half_at(row, i)) << 16));
    });
  }
};

template <Sum kind>
struct S8 : FloatRow {
  static float sum(const float* q, const std::byte* row, std::size_t n) {
    const float step = kind == Sum::dot ? 1.0f : float_at(row + (n + 63) / 64 * 64);
    return float_sum(n, [=](std::size_t i) {
      return pair<kind>(q[i], step * static_cast<float>(static_cast<std::int8_t>(row[i])));
    });
  }
};

template <Sum kind>
struct I8 : ByteRow {
  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    std::uint32_t total = 0; // of dot in two's complement
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t a = q[i];
      const std::int32_t b = static_cast<std::int8_t>(row[i]);
      total += static_cast<std::uint32_t>(kind == Sum::dot ? a * b : (a - b) * (a - b));
    }
    return kind == Sum::dot ? static_cast<float>(static_cast<std::int32_t>(total))
                            : static_cast<float>(total);
  }
};

template <Sum kind>
struct I7 : I8<kind> {};

inline std::int32_t bit_of(const std::byte* plane, std::size_t d) {
  return static_cast<std::int32_t>(plane[d / 128 * 16 + d % 16]) >> (d % 128 / 16) & 1;
}

inline std::int32_t pair_of(const std::byte* plane, std::size_t d) {
  return static_cast<std::int32_t>(plane[d / 128 * 32 + d % 32]) >> (d % 128 / 32 * 2) & 3;
}

template <Sum kind>
struct U4 : ByteRow {
  static std::int32_t part(const std::int8_t* q, const std::byte* row, std::size_t n) {
    std::int32_t total = 0;
    for (std::size_t i = 0; i < n; ++i) total += 8 * q[i] * bit_of(row, i);
    return total;
  }
  static std::int32_t rest(const std::int8_t* q, const std::byte* row, std::size_t n) {
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    std::int32_t total = 0;
    for (std::size_t i = 0; i < n; ++i) total += q[i] * (2 * pair_of(pairs, i) + bit_of(last, i));
    return total;
  }
  static float sum(const std::int8_t* q, const std::byte* row, std::size_t n) {
    if constexpr (kind == Sum::dot) return static_cast<float>(part(q, row, n) + rest(q, row, n));
    const std::byte* pairs = row + n / 8;
    const std::byte* last = pairs + n / 4;
    std::uint32_t total = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t u = 8 * bit_of(row, i) + 2 * pair_of(pairs, i) + bit_of(last, i);
      const std::int32_t d = static_cast<std::uint8_t>(q[i]) - 16 * u;
      total += static_cast<std::uint32_t>(d * d);
    }
    return static_cast<float>(total);
  }
};

float dot(const float* a, const float* b, std::size_t n) {
  return F32<Sum::dot>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}
float l2(const float* a, const float* b, std::size_t n) {
  return F32<Sum::l2>::sum(a, reinterpret_cast<const std::byte*>(b), n);
}

} // namespace

constinit const Kernels kernels_scalar = make_kernels<F32, F16, Bf16, S8, I8, I7, U4>("scalar", dot, l2);

} // namespace embedcore::hnsw
