// What the first dimensions of a float row say of its distance: a walk sums rows in parts, and gives a row up
// as soon as its distance so far says that the whole one lies beyond what the walk keeps. Most rows that a
// walk meets are too far to be kept, and memory is what float rows cost.
//
// Of rows around a query the distance by all dimensions, D, follows that by the first ones, p, with an error
// that is measured on the index (calibrate.cpp):
//
//   cosine   D = a p + b, with an error that has one deviation for all
//   l2       p = s D, s a share that has a mean and a deviation; p never exceeds D
//
// A row is given up where D less a few deviations lies above the bound. ADSampling (Gao and Long, SIGMOD
// 2023) does so by a bound for rotated vectors; here vectors stay as they are and the error is measured.
//
// Thread safety: set and lend may be called at any time; a walk takes each limit as a whole, relaxed, and any
// mixture of limits measured at different times is as good as either.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>

#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

// Sums over rows of one index, from which a limit follows.
struct PartFit {
  double n = 0, p = 0, pp = 0, d = 0, dd = 0, pd = 0, share = 0, shares = 0;

  void add(double part, double whole);
  // slope 0: the part says nothing of the whole.
  [[nodiscard]] PartLimit limit(bool l2) const;
};

class Glance {
 public:
  using Limits = std::array<PartLimit, most_part_limits>;

  // Dimensions of a part; 0 where rows are too short for parts.
  static constexpr std::size_t part_dims(std::size_t dim) {
    if (dim < 128) return 0;
    if (dim < 256) return 64;
    return std::max<std::size_t>(128, ((dim + most_part_limits) / (most_part_limits + 1) + 63) / 64 * 64);
  }
  // How many limits there are: one for each part but the last.
  static constexpr std::size_t count(std::size_t dim) {
    const std::size_t part = part_dims(dim);
    return part == 0 ? 0 : (dim + part - 1) / part - 1;
  }
  // All slopes 0: off.
  void set(const Limits& limits) {
    for (std::size_t i = 0; i < limits.size(); ++i) limits_[i].store(limits[i], std::memory_order_relaxed);
  }
  [[nodiscard]] Limits limits() const {
    Limits now{};
    for (std::size_t i = 0; i < now.size(); ++i) now[i] = limits_[i].load(std::memory_order_relaxed);
    return now;
  }
  // Has a walk over float rows, of so many bytes a value, sum them in parts.
  void lend(std::size_t dim, std::size_t value_bytes, Walk& walk) const;

 private:
  std::array<std::atomic<PartLimit>, most_part_limits> limits_{};
  static_assert(std::atomic<PartLimit>::is_always_lock_free);
};

} // namespace embedcore::hnsw
