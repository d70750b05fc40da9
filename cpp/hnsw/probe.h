// Distances from one vector to stored ones, in the metric of the index: 1 - cos, 1 - dot, or squared L2.
//
//   exact      a float query against the originals: what searches return
//   walking    a float query against what walks read: codes, or the originals where there are none (yet)
//   between    a stored vector against stored ones, in the same currency as walking among stored ones
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hnsw/codec.h"
#include "hnsw/index.h"
#include "hnsw/kernels.h"
#include "hnsw/originals.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

// What a distance needs to know of its index.
struct Space {
  const Storage* storage = nullptr;
  std::size_t dim = 0;
  Metric metric = Metric::cosine;
  // Walks rank by the integers of the originals themselves (dtype int8 without other codes).
  bool lean = false;
  Form original_form = Form::f32;
  const Kernels* kernels = nullptr;
  // Null while walks read the originals. Readers load it once per search (acquire) under an epoch guard;
  // training, which excludes writers, publishes it (release) when all codes are made.
  std::atomic<const Codec*> codec{nullptr};
};

// What a probe keeps its query in; must outlive it.
struct ProbeBuffer {
  std::vector<float> floats;
  std::vector<std::int8_t> bytes;

  [[nodiscard]] std::size_t memory() const { return floats.capacity() * sizeof(float) + bytes.capacity(); }
};

class Probe {
 public:
  Probe() = default;
  // vector: of unit length under cosine; must outlive the probe.
  static Probe exact(const Space& space, const float* vector);
  static Probe walking(const Space& space, const Codec* codec, const float* vector, ProbeBuffer& buffer);
  // For writers, while training is excluded.
  static Probe between(const Space& space, Slot slot, ProbeBuffer& buffer);

  void to(const Slot* slots, std::size_t n, float* distances) const {
    kernel_(measure_, slots, n, distances);
  }
  [[nodiscard]] float to(Slot slot) const {
    float distance = 0;
    kernel_(measure_, &slot, 1, &distance);
    return distance;
  }
  // By how much the exact distance lies below the measured one at most, but for one case in some dozens.
  [[nodiscard]] float doubt(float distance) const {
    return doubt_ + doubt_by_root_ * std::sqrt(std::max(distance, 0.0f));
  }
  [[nodiscard]] const Measure& measure() const { return measure_; }
  [[nodiscard]] DescentKernel descend() const { return descend_; }
  [[nodiscard]] WalkKernel walk() const { return walk_; }
  // Lines of a row that pay to be asked for when its node is met: all of a code, two of floats.
  [[nodiscard]] std::size_t row_lines() const { return row_lines_; }
  // The others are asked for by walks, so many rows before they are read.
  [[nodiscard]] std::size_t later_lines() const { return later_lines_; }
  [[nodiscard]] std::size_t ahead() const {
    return std::clamp<std::size_t>(lines_under_way / (row_lines_ + later_lines_), 1, most_ahead);
  }
  // Those that the estimate by highest bits reads.
  [[nodiscard]] std::size_t part_lines() const {
    return measure_.part_scale == 0 ? row_lines_ : std::min(row_lines_, (measure_.n / 8 + 63) / 64);
  }
  void prefetch(Slot slot) const { prefetch(slot, row_lines_); }
  // Has a walk ask for the rows of the n nearest it met, which are read when it has ended.
  void ask_while_walking(std::size_t n, Walk& walk) const {
    walk.ending_rows = measure_.rows;
    walk.ending_stride = measure_.stride;
    walk.ending_lines = lines_alone_;
    walk.ending = n;
  }
  // For a row that is read by itself, some while later.
  void prefetch_alone(Slot slot) const { prefetch(slot, lines_alone_); }

 private:
  static constexpr std::size_t lines_under_way = 96; // 6 KB, well inside of a first-level cache
  static constexpr std::size_t most_ahead = 8;

  void prefetch(Slot slot, std::size_t lines) const {
    const std::byte* row = measure_.rows + slot * measure_.stride;
    for (std::size_t line = 0; line < lines; ++line) __builtin_prefetch(row + 64 * line, 0, 3);
  }
  void use(const Space& space, Form form, Sum sum);
  void over(const Storage::Rows& rows);
  void scales_behind_rows(const Space& space, const Storage::Rows& rows, bool terms);

  void doubt_codes(const Space& space, const Codec& codec, const float* vector);

  Measure measure_{};
  float doubt_ = 0;
  float doubt_by_root_ = 0;
  MeasureKernel kernel_ = nullptr;
  DescentKernel descend_ = nullptr;
  WalkKernel walk_ = nullptr;
  std::size_t row_lines_ = 0;
  std::size_t later_lines_ = 0;
  std::size_t lines_alone_ = 0;
};

// The vector as probes take it: itself, or of unit length under cosine, in the buffer.
const float* unit_length(const Space& space, const float* vector, std::vector<float>& buffer);

} // namespace embedcore::hnsw
