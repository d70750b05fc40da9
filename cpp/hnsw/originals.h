// How the vectors that callers gave are kept: the exact tier, which final distances and get() read.
//
//   float32    as it came
//   float16    rounded to nearest even; what would overflow is refused
//   bfloat16   rounded to nearest even
//   int8       a step per vector (its largest value / 127), then whole multiples of it; behind them Scales,
//              so that a walk can rank by the integers alone:
//                cosine  factor = 1 / |integers|            term = 0
//                ip      factor = step                      term = 0
//                l2      factor = step                      term = |vector|^2
#pragma once

#include <cstddef>

#include "hnsw/index.h"
#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

// 1 / |v|; summed in double, so that it is the same on every instruction set. 0 for the zero vector.
[[nodiscard]] float inverse_norm(const float* v, std::size_t dim);

class Originals {
 public:
  explicit Originals(const Config& config) : dim_(config.dim), metric_(config.metric), dtype_(config.dtype) {}

  [[nodiscard]] Form form() const;
  [[nodiscard]] std::size_t bytes() const; // of a row; a multiple of 2, and of 4 unless halves are kept
  // Writes the row and returns 1 / |what was kept|.
  float store(const float* vector, std::byte* row) const;
  void load(const std::byte* row, float* vector) const;

 private:
  float store_int8(const float* vector, std::byte* row) const;

  std::size_t dim_;
  Metric metric_;
  Dtype dtype_;
};

} // namespace embedcore::hnsw
