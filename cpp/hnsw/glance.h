// What the first dimensions of a float row say of its distance: a walk sums rows in parts, and gives a row up
// as soon as its distance so far says that the whole one lies beyond what the walk keeps. Most rows that a
// walk meets are too far to be kept, and memory is what float rows cost.
//
// Of rows around a query the distance by all dimensions, D, follows that by the first ones, p, with an error
// that is measured on the index (calibrate.cpp):
//
//   cosine   D = a p + b + c r, r being the square of what the query has in the other dimensions: in a place
//            where all vectors have much there, p is small for all of them
//   l2       p = s D, s a share that has a mean and a deviation; p never exceeds D
//
// r is a share of the whole query; one that has more or less there than those it was measured with is a
// stranger, of whom nothing is known: its rows are summed whole.
//
// A row is given up where D less a few deviations lies above the bound. ADSampling (Gao and Long, SIGMOD
// 2023) does so by a bound for rotated vectors; here vectors stay as they are and the error is measured.
//
// That holds for bounds like the distances that were seen. In a place that is small and dense beside those
// all rows may look too far; so against bounds below a floor, which calibrate.cpp sets, rows are summed
// whole.
//
// Thread safety: all of Glance may be called at any time; who lends takes limits that belong together. What
// was set is kept for as long as the index, as nobody counts who reads it: it is set a few dozen times.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

// What follows from the distance by the first dimensions. slope 0: nothing.
struct PartLimit {
  float slope; // a row is given up above slope * bound + shift + own * r
  float shift;
  float own;
  float least; // for queries whose r lies between these
  float most;
  float floor; // for bounds not below this
};
static_assert(sizeof(PartLimit) == 24, "as a snapshot keeps it");

// Sums over rows of one index, from which a limit follows.
class PartFit {
 public:
  void add(double part, double own, double whole);
  // At so many deviations of the error.
  [[nodiscard]] PartLimit limit(bool l2, double deviations) const;

 private:
  [[nodiscard]] PartLimit of_shares(double deviations) const;
  [[nodiscard]] PartLimit of_sums(double deviations) const;

  double n_ = 0, p_ = 0, o_ = 0, d_ = 0, pp_ = 0, oo_ = 0, dd_ = 0, po_ = 0, pd_ = 0, od_ = 0;
  double share_ = 0, shares_ = 0, least_ = 1, most_ = 0;
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
  // bad_alloc: nothing has changed.
  void set(const Limits& limits);
  // Rows are summed whole, as at first.
  void off() noexcept { now_.store(&none, std::memory_order_release); }
  [[nodiscard]] const Limits& limits() const { return *now_.load(std::memory_order_acquire); }
  // Has a walk over float rows, of so many bytes a value, sum them in parts.
  void lend(const Kernels& kernels, const float* query, std::size_t dim, std::size_t value_bytes,
            Walk& walk) const;

 private:
  static constexpr Limits none{};
  std::atomic<const Limits*> now_{&none}; // or the last of all_; stored with release
  std::mutex mutex_;                      // guards all_
  std::vector<std::unique_ptr<const Limits>> all_;
};

} // namespace embedcore::hnsw
