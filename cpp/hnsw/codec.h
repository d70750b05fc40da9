// Codes: what the graph walk reads in place of the originals. One grid for all dimensions and vectors:
//
//   value of a dimension = mean[dimension] + step * v      v in -127..127
//   int8   v itself, one byte; under l2 in -63..63, so that differences of two fit a byte, whose squares take
//          half the instructions: that the grid is half as fine, no walk notices
//   int4   v = 16 u - 120 with u in 0..15, half a byte
//
// Under cosine vectors are brought to unit length first; under inner product there is no mean, so that the
// product of two codes needs nothing but their integers. The step is the one that loses least on a sample
// (least squares over a grid of candidates), which cuts off outliers. For cosine and inner product the
// roundings of a vector are balanced: code_grid.h.
//
// A codec never changes. Readers load the index's pointer to it with acquire; training publishes a new one
// after all codes are made with it (train.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "hnsw/index.h"
#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

struct CodecValues {       // what a snapshot keeps of it
  std::vector<float> mean; // dim values
  float step = 0;
  int most = 127;  // of an int8 code
  float error = 0; // root of the mean squared error of a value, on the sample
  // int4: what the highest bit alone stands for, +- high steps, and the root of the mean square of what it
  // leaves out, in steps. See Codec::finish_dot.
  float high = 0;
  float high_error = 0;
  std::uint64_t trained_on = 0; // items there were
};

class Codec {
 public:
  Codec(const Config& config, const Kernels& kernels, CodecValues values);
  // From sample.size() / dim vectors, of unit length under cosine. Pre-condition: at least one.
  static CodecValues train(const Config& config, std::span<const float> sample, std::uint64_t population);

  // Bytes of a code, a multiple of 64.
  [[nodiscard]] static std::size_t bytes(const Config& config);
  [[nodiscard]] Form form() const { return form_; }
  // Vectors of unit length under cosine. encode returns how many dimensions were cut off.
  std::size_t encode(const float* vector, std::byte* code) const;

  // A query that measures codes; buffer holds it and must outlive the measure, whose rows and stride the
  // caller sets. sum: which kernel to use.
  struct Prepared {
    Measure measure;
    Sum sum;
  };
  Prepared query(const float* vector, std::vector<std::int8_t>& buffer) const;
  // The same from a code. buffer may stay unused: then the code itself is the query.
  Prepared between(const std::byte* code, std::vector<std::int8_t>& buffer) const;

  [[nodiscard]] const CodecValues& values() const { return values_; }

 private:
  Prepared dot_query(const float* vector, std::vector<std::int8_t>& buffer) const;
  Prepared l2_query(const float* vector, std::vector<std::int8_t>& buffer) const;
  Prepared finish_dot(const std::int8_t* query, float unit, float constant, float length) const;

  const std::size_t dim_;
  const std::size_t width_; // dimensions with padding
  const Metric metric_;
  const Form form_;
  const Kernels& kernels_;
  const CodecValues values_;
};

} // namespace embedcore::hnsw
