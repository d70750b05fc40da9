// What exact_search measures with: a group of queries that goes through rows of the base together. exact.cpp
// says how; included by it alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "hnsw/exact.h"
#include "hnsw/kernels.h"
#include "hnsw/originals.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t block_bytes = std::size_t{256} << 10; // of base, in the second-level cache
constexpr std::size_t fewest_rows = 48;                     // of a block, however long rows are
constexpr std::size_t most_rows = 252;
constexpr std::size_t step_rows = 12;                           // whole tiles on every instruction set
constexpr std::size_t ahead = 3072;                             // bytes that are on their way from memory
constexpr double unit_roundoff = 1.0 / (1 << 24);               // of float32
constexpr double underflow = std::numeric_limits<float>::min(); // below it errors are not relative
constexpr float infinite = std::numeric_limits<float>::infinity();

struct Hit {
  float distance;
  std::int64_t id;
};

bool nearer_hit(const Hit& a, const Hit& b) {
  return a.distance < b.distance || (a.distance == b.distance && a.id < b.id);
}

// The k nearest seen, as a max-heap.
using Heap = std::vector<Hit>;

bool offer(Heap& heap, std::size_t k, Hit hit) {
  if (heap.size() == k) {
    if (!nearer_hit(hit, heap.front())) return false;
    std::pop_heap(heap.begin(), heap.end(), nearer_hit);
    heap.back() = hit;
  } else {
    heap.push_back(hit);
  }
  std::push_heap(heap.begin(), heap.end(), nearer_hit);
  return true;
}

std::size_t up_to(std::size_t n, std::size_t step) { return (n + step - 1) / step * step; }

struct alignas(64) Line {
  float values[16];
};

struct Job {
  const Kernels& kernels;
  Metric metric;
  std::uint32_t dim;
  Rows base;
  std::size_t k;
};

// A group of queries, and the way of all of them through a range of rows. One per worker, used again.
class Group {
 public:
  explicit Group(const Job& job) : job_(job), width_(job.kernels.tile.queries) {
    const std::size_t fit = block_bytes / (job.dim * sizeof(float));
    const std::size_t rows = std::clamp(fit / step_rows * step_rows, fewest_rows, most_rows);
    scale_.resize(rows);
    shift_.resize(rows);
    products_.resize(step_rows * width_);
  }

  [[nodiscard]] std::size_t block_rows() const { return scale_.size(); }

  // heap of query i: heaps[i * stride].
  void start(Rows queries, Heap* heaps, std::size_t stride) {
    count_ = queries.count;
    heaps_ = heaps;
    stride_ = stride;
    // A panel that would be mostly empty costs more than its queries one by one.
    const std::size_t rest = count_ % width_;
    in_panels_ = rest * 2 < width_ ? count_ - rest : count_;
    queries_.resize(count_ * job_.dim);
    for (std::size_t i = 0; i < count_; ++i) {
      const float* from = queries.data + i * job_.dim;
      const float scale = job_.metric == Metric::cosine ? inverse_norm(from, job_.dim) : 1.0f;
      float* to = queries_.data() + i * job_.dim;
      for (std::size_t d = 0; d < job_.dim; ++d) to[d] = from[d] * scale;
    }
    pack();
  }

  // Returns whether all rows are well within what floats measure; others may have to be refused.
  bool meet(std::size_t first, std::size_t end) {
    reach_ = 0;
    plain_ = true;
    for (std::size_t r = first; r < end; ++r) {
      ask_ahead(r);
      meet_alone(r, r - first);
    }
    for (std::size_t i = 0; i < in_panels_; ++i) set_cut(i);
    const std::size_t panels = (in_panels_ + width_ - 1) / width_;
    for (std::size_t p = 0; p < panels; ++p) {
      for (std::size_t r = first; r < end; r += step_rows) {
        const std::size_t n = std::min(step_rows, end - r);
        job_.kernels.tile.products(panel(p * width_), job_.dim, row(r), job_.dim, n, products_.data());
        sift(p * width_, r, n, r - first);
      }
    }
    return plain_;
  }

 private:
  [[nodiscard]] float* panel(std::size_t i) {
    return reinterpret_cast<float*>(panels_.data()) + i * job_.dim;
  }
  [[nodiscard]] const float* row(std::size_t id) const { return job_.base.data + id * job_.dim; }
  [[nodiscard]] const float* query(std::size_t i) const { return queries_.data() + i * job_.dim; }

  void pack() {
    const std::size_t floats = up_to(in_panels_, width_) * job_.dim;
    panels_.assign((floats + 15) / 16, Line{});
    for (std::size_t i = 0; i < in_panels_; ++i) {
      float* to = panel(i / width_ * width_) + i % width_;
      for (std::size_t d = 0; d < job_.dim; ++d) to[d * width_] = query(i)[d];
    }
    cuts_.assign(up_to(in_panels_, width_), infinite);
    norms_.resize(in_panels_);
    for (std::size_t i = 0; i < in_panels_; ++i) norms_[i] = norm(query(i), squared(query(i)));
  }

  [[nodiscard]] float squared(const float* v) const { return job_.kernels.dot(v, v, job_.dim); }
  // False for NaN.
  static bool is_plain(float square) { return square > 1e-20f && square < 1e37f; }

  // |v|, which float32 squares cannot always tell.
  [[nodiscard]] double norm(const float* v, float square) const {
    if (is_plain(square)) return std::sqrt(static_cast<double>(square));
    const float inverse = inverse_norm(v, job_.dim);
    return inverse > 0 ? 1.0 / static_cast<double>(inverse) : 0.0;
  }

  [[nodiscard]] float distance(std::size_t i, const float* row, float inverse) const {
    if (job_.metric == Metric::l2) return job_.kernels.l2(query(i), row, job_.dim);
    return 1.0f - job_.kernels.dot(query(i), row, job_.dim) * inverse;
  }

  // The processor follows the stream of rows by itself, but starts anew at every page.
  void ask_ahead(std::size_t id) const {
    const auto at = reinterpret_cast<std::uintptr_t>(row(id)) + ahead; // perhaps beyond the last, unread
    for (std::size_t i = 0; i < job_.dim * sizeof(float); i += sizeof(Line)) {
      __builtin_prefetch(reinterpret_cast<const void*>(at + i));
    }
  }

  // Row r of the block: what sifting needs to know of it, and its distances to the queries outside panels.
  // Row by row, because this is where rows come from memory.
  void meet_alone(std::size_t id, std::size_t r) {
    const bool cosine = job_.metric == Metric::cosine;
    const float square = squared(row(id));
    plain_ = plain_ && is_plain(square);
    scale_[r] = 1.0f;
    if (cosine || in_panels_ != 0) {
      const double length = norm(row(id), square);
      if (cosine) scale_[r] = length > 0 ? static_cast<float>(1.0 / length) : 0.0f;
      shift_[r] = job_.metric == Metric::l2 ? static_cast<float>(-length * length * (1 - slack()) / 2) : 0.0f;
      reach_ = std::max(reach_, length);
    }
    for (std::size_t i = in_panels_; i < count_; ++i) {
      offer(heaps_[i * stride_], job_.k, {distance(i, row(id), scale_[r]), static_cast<std::int64_t>(id)});
    }
  }

  // How far a sum over a row may be off, relative to the sum of magnitudes: by the product of the tile, by
  // the kernel, by the norms; n roundings each at most (Higham, Accuracy and Stability, section 3.1).
  [[nodiscard]] double slack() const { return (4.0 * job_.dim + 32) * unit_roundoff; }

  // The least product * scale + shift of a row of this block that may be among the k nearest of query i.
  void set_cut(std::size_t i) {
    const Heap& heap = heaps_[i * stride_];
    if (heap.size() < job_.k) {
      cuts_[i] = -infinite;
      return;
    }
    const double bound = static_cast<double>(heap.front().distance);
    double cut = 0;
    if (job_.metric == Metric::l2) {
      cut = (norms_[i] * norms_[i] * (1 - slack()) - bound) / 2;
    } else {
      const double most = job_.metric == Metric::cosine ? 1.0 : norms_[i] * reach_;
      cut = 1 - bound - slack() * (1 + std::abs(bound) + most);
    }
    cuts_[i] = static_cast<float>(cut - 4 * unit_roundoff * std::abs(cut) - underflow);
  }

  // Measures the rows that their products with the panel of query i do not rule out; r: the first of them
  // in the block.
  void sift(std::size_t i, std::size_t first, std::size_t rows, std::size_t r) {
    const Tile& tile = job_.kernels.tile;
    const float* const cuts = cuts_.data() + i;
    if (!tile.above(products_.data(), &scale_[r], &shift_[r], cuts, rows)) return;
    const std::size_t filled = std::min(width_, count_ - i);
    for (std::size_t n = 0; n < rows; ++n, ++r) {
      const float* const products = products_.data() + n * width_;
      if (!tile.above(products, &scale_[r], &shift_[r], cuts, 1)) continue;
      for (std::size_t j = 0; j < filled; ++j) {
        if (products[j] * scale_[r] + shift_[r] < cuts[j]) continue;
        const Hit hit{distance(i + j, row(first + n), scale_[r]), static_cast<std::int64_t>(first + n)};
        if (offer(heaps_[(i + j) * stride_], job_.k, hit)) set_cut(i + j);
      }
    }
  }

  const Job& job_;
  const std::size_t width_; // of a panel
  std::size_t count_ = 0;
  std::size_t in_panels_ = 0; // the first of the queries; the others are met one by one
  Heap* heaps_ = nullptr;
  std::size_t stride_ = 0;
  std::vector<float> queries_; // of unit length under cosine
  std::vector<Line> panels_;
  std::vector<double> norms_;
  std::vector<float> cuts_;
  // Of the block.
  std::vector<float> scale_;
  std::vector<float> shift_;
  std::vector<float> products_;
  double reach_ = 0; // the largest norm
  bool plain_ = true;
};

} // namespace

} // namespace embedcore::hnsw
