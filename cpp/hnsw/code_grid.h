// How the values of one vector come onto the grid of its code: rounded, and for products balanced.
//
// A product of a query with a code is off by query * e, where e is what rounding has taken from the vector x.
// For a query near x that is almost x * e: the same for all queries near it, another for each x, and in a
// place whose vectors lie close together larger than the differences between their distances. So some values,
// those that lay almost between two steps, are moved to the other one, until x * e is next to nothing. Then e
// counts by the difference between query and x only. (Error along the vector counts more than error across
// it: Guo et al., ICML 2020, who choose vector quantisers by that.)
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace embedcore::hnsw {

// Value v of dimension d stands for mean[d] + unit * (v - zero); v is in least..most.
struct Grid {
  const float* mean;
  float unit;
  float zero;
  int least;
  int most;
};

// For one vector, of which any number of stretches are first looked at, all of them, then moved.
class Balance {
 public:
  explicit Balance(const Grid& grid) : grid_(grid) {}

  // n dimensions from `from` on; x and values begin there. In lanes, which compilers turn into vectors.
  template <class Value>
  void look(const float* x, const Value* values, std::size_t from, std::size_t n) {
    Lanes left{};
    Lanes sizes{};
    Lanes gains{};   // x where a value is below, -x where it is above, of those that may move first
    Lanes movable{}; // |x| of those
    const float first = shares[0] * grid_.unit;
    const float end = past_end * grid_.unit;
    const auto add = [&](std::size_t j, std::size_t lane) {
      const float off = this->off(x[j], values[j], from + j);
      const float size = std::abs(off);
      const float weight = (size >= first ? 1.0f : 0.0f) * (size < end ? 1.0f : 0.0f);
      left[lane] += x[j] * off;
      sizes[lane] += std::abs(x[j]);
      gains[lane] += weight * x[j] * std::copysign(1.0f, off);
      movable[lane] += weight * std::abs(x[j]);
    };
    std::size_t j = 0;
    for (; j + lanes <= n; j += lanes) {
      for (std::size_t lane = 0; lane < lanes; ++lane) add(j + lane, lane);
    }
    for (; j < n; ++j) add(j, 0);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      left_ += left[lane];
      sizes_ += sizes[lane];
      up_ += (movable[lane] + gains[lane]) / 2;
      down_ += (movable[lane] - gains[lane]) / 2;
    }
    count_ += n;
  }

  template <class Value>
  void move(const float* x, Value* values, std::size_t from, std::size_t n) {
    // Enough of those that lay between two steps almost exactly, or others as well.
    const bool plenty = (left_ > 0 ? up_ : down_) * grid_.unit >= std::abs(left_);
    if (plenty) move(x, values, from, n, shares[0]);
    if (!plenty || from + n == count_) move(x, values, from, n, shares[1]);
  }

 private:
  static constexpr std::size_t lanes = 16;
  using Lanes = std::array<float, lanes>;

  template <class Value>
  void move(const float* x, Value* values, std::size_t from, std::size_t n, float share) {
    const float enough = 0.2f * grid_.unit * sizes_ / static_cast<float>(count_);
    for (std::size_t j = 0; j < n && std::abs(left_) > enough; ++j) {
      const float off = this->off(x[j], values[j], from + j);
      if (std::abs(off) < share * grid_.unit) continue;
      const int by = off > 0 ? 1 : -1;
      const int moved = values[j] + by;
      const float after = left_ - static_cast<float>(by) * grid_.unit * x[j];
      if (moved < grid_.least || moved > grid_.most || std::abs(after) >= std::abs(left_)) continue;
      values[j] = static_cast<Value>(moved);
      left_ = after;
    }
  }

  // Of a step: how far off a value is at least that is moved. No value is off by more than what this leaves.
  static constexpr std::array<float, 2> shares{0.4f, 0.25f};
  static constexpr float past_end = 0.501f; // farther off are those that the ends of the grid cut off

  template <class Value>
  [[nodiscard]] float off(float x, Value value, std::size_t d) const {
    return x - grid_.mean[d] - grid_.unit * (static_cast<float>(value) - grid_.zero);
  }

  const Grid grid_;
  float left_ = 0; // x * e
  float sizes_ = 0;
  float up_ = 0; // by how many units values may move it down, and up
  float down_ = 0;
  std::size_t count_ = 0;
};

constexpr std::size_t code_block = 128; // dimensions of an int4 code whose bits lie together

// u of n dimensions of int4, in loops that compilers turn into vector instructions. Returns how many were cut
// off. inverse: 1 / unit.
inline int quantise_int4(const float* vector, const float* mean, float inverse, std::size_t n,
                         std::uint8_t* whole) {
  int cut = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float u = (vector[i] - mean[i]) * inverse + 8.0f; // + 7.5, and + 0.5 to round
    cut += (u < 0 ? 1 : 0) + (u >= 16 ? 1 : 0);
    const float inside = u < 0 ? 0.0f : (u > 15 ? 15.0f : u);
    whole[i] = static_cast<std::uint8_t>(static_cast<int>(inside));
  }
  return cut;
}

// The highest bits of a block, the two in the middle, and the lowest, as the kernels take them.
inline void pack_int4(const std::uint8_t* whole, std::byte* first, std::byte* pairs, std::byte* last) {
  for (std::size_t lane = 0; lane < 16; ++lane) {
    unsigned high = 0;
    unsigned low = 0;
    for (std::size_t bit = 0; bit < 8; ++bit) {
      const unsigned u = whole[16 * bit + lane];
      high |= (u >> 3 & 1u) << bit;
      low |= (u & 1u) << bit;
    }
    first[lane] = static_cast<std::byte>(high);
    last[lane] = static_cast<std::byte>(low);
  }
  for (std::size_t lane = 0; lane < 32; ++lane) {
    unsigned two = 0;
    for (std::size_t pair = 0; pair < 4; ++pair) two |= (whole[32 * pair + lane] >> 1 & 3u) << 2 * pair;
    pairs[lane] = static_cast<std::byte>(two);
  }
}

} // namespace embedcore::hnsw
