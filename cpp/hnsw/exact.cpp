// Tiled brute force: a block of base rows is read from memory once for many queries.
//
// Full panels of queries meet a block through the register tile (Tile), whose products only sift: a row
// whose distance, by the product and with all rounding in its favour, is beyond the k-th nearest so far is
// passed over. What is left, some k log(n / k) rows a query, is measured by the kernels that measure the few
// queries without a panel. So a result depends on the query and the base only: not on its neighbours in the
// batch, the threads, or how the tile sums; and the square of a small l2 distance never comes from the
// difference of large norms.
#include "hnsw/exact.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "hnsw/kernels.h"
#include "hnsw/originals.h"
#include "hnsw/parallel.h"
#include "hnsw/validate.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t most_queries = 256;                   // of one task
constexpr std::size_t block_bytes = std::size_t{256} << 10; // of base, in the second-level cache
constexpr std::size_t fewest_rows = 48;                     // of a block, however long rows are
constexpr std::size_t most_rows = 252;
constexpr std::size_t step_rows = 12;                           // whole tiles on every instruction set
constexpr std::size_t part_bytes = std::size_t{1} << 20;        // of base, least for a task
constexpr std::size_t tasks_per_worker = 4;                     // so that all end at about the same time
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

// Of what the workers refuse, what comes first in the base: whichever worker was faster, the same is named.
struct FirstRefusal {
  void note(std::size_t row, Status why) {
    const std::lock_guard lock(mutex);
    if (!status.ok() && row >= at) return;
    at = row;
    status = std::move(why);
  }

  std::mutex mutex;
  std::size_t at = 0;
  Status status;
};

} // namespace

Status exact_search(Metric metric, std::uint32_t dim, Rows base, Rows queries, std::size_t k,
                    unsigned threads, const std::function<bool()>& keep_going, std::int64_t* ids,
                    float* distances) {
  const auto& chosen = chosen_kernels();
  if (!chosen.ok()) return chosen.error();
  return exact_search(*chosen.value(), metric, dim, base, queries, k, threads, keep_going, ids, distances);
}

Status exact_search(const Kernels& kernels, Metric metric, std::uint32_t dim, Rows base, Rows queries,
                    std::size_t k, unsigned threads, const std::function<bool()>& keep_going,
                    std::int64_t* ids, float* distances) {
  Config config;
  config.dim = dim;
  config.metric = metric;
  if (queries.count == 0 || k == 0) return check_vectors(config, base.data, base.count, "base vector");
  const Job job{kernels, metric, dim, base, k};

  // Tasks are (group of queries, part of base); parts only where groups alone would leave threads idle.
  const std::size_t groups_least = (queries.count + most_queries - 1) / most_queries;
  const std::size_t group = up_to((queries.count + groups_least - 1) / groups_least, kernels.tile.queries);
  const std::size_t groups = (queries.count + group - 1) / group;
  const unsigned most_workers = workers_for(threads, std::numeric_limits<std::size_t>::max());
  const std::size_t wanted = most_workers == 1 ? 1 : (tasks_per_worker * most_workers + groups - 1) / groups;
  const std::size_t useful = base.count * dim * sizeof(float) / part_bytes;
  const std::size_t parts = std::clamp<std::size_t>(useful, 1, wanted);
  const std::size_t part_rows = (base.count + parts - 1) / parts;
  std::vector<Heap> heaps(queries.count * parts);

  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};
  FirstRefusal refusal;
  run_workers(workers_for(threads, groups * parts), [&](unsigned worker) {
    Group members(job);
    for (;;) {
      const std::size_t task = next.fetch_add(1, std::memory_order_relaxed);
      if (task >= groups * parts || stop.load(std::memory_order_relaxed)) return;
      const std::size_t part = task % parts;
      const std::size_t first = task / parts * group;
      members.start({queries.data + first * dim, std::min(group, queries.count - first)},
                    &heaps[first * parts + part], parts);
      const std::size_t end = std::min((part + 1) * part_rows, base.count);
      for (std::size_t row = part * part_rows; row < end; row += members.block_rows()) {
        const std::size_t block_end = std::min(row + members.block_rows(), end);
        if (!members.meet(row, block_end)) { // not before: that would be a second way through the block
          Status status = check_vectors(config, base.data + row * dim, block_end - row, "base vector", row);
          if (!status.ok()) return refusal.note(row, std::move(status));
        }
        if (worker == 0 && keep_going && !keep_going()) {
          stop.store(true, std::memory_order_relaxed);
          return;
        }
      }
    }
  });
  if (stop.load()) return {Code::cancelled, "exact search was stopped"};
  if (!refusal.status.ok()) return refusal.status;

  for (std::size_t q = 0; q < queries.count; ++q) {
    Heap& hits = heaps[q * parts];
    for (std::size_t p = 1; p < parts; ++p) {
      for (const Hit& hit : heaps[q * parts + p]) offer(hits, k, hit);
    }
    std::sort_heap(hits.begin(), hits.end(), nearer_hit);
    for (std::size_t i = 0; i < k; ++i) {
      const bool exists = i < hits.size();
      ids[q * k + i] = exists ? hits[i].id : -1;
      distances[q * k + i] = exists ? hits[i].distance : infinite;
    }
  }
  return {};
}

} // namespace embedcore::hnsw
