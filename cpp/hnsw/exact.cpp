// Tiled brute force: a block of base rows is read from memory once for several queries.
#include "hnsw/exact.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "hnsw/distance.h"
#include "hnsw/parallel.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t query_block = 16;
constexpr std::size_t base_block_bytes = std::size_t{256} << 10; // stays in the second-level cache
constexpr std::size_t base_part = std::size_t{16} << 10;         // rows: one task, when queries are few

struct Hit {
  float distance;
  std::int64_t id;
};

bool nearer_hit(const Hit& a, const Hit& b) {
  return a.distance < b.distance || (a.distance == b.distance && a.id < b.id);
}

// The k nearest seen, as a max-heap.
void offer(std::vector<Hit>& heap, std::size_t k, Hit hit) {
  if (heap.size() == k && !nearer_hit(hit, heap.front())) return;
  heap.push_back(hit);
  std::push_heap(heap.begin(), heap.end(), nearer_hit);
  if (heap.size() <= k) return;
  std::pop_heap(heap.begin(), heap.end(), nearer_hit);
  heap.pop_back();
}

std::vector<float> inverse_norms(Rows rows, std::uint32_t dim) {
  std::vector<float> norms(rows.count);
  for (std::size_t i = 0; i < rows.count; ++i) norms[i] = inverse_norm(rows.data + i * dim, dim);
  return norms;
}

} // namespace

Status exact_search(Metric metric, std::uint32_t dim, Rows base, Rows queries, std::size_t k,
                    unsigned threads, const std::function<bool()>& keep_going, std::int64_t* ids,
                    float* distances) {
  const auto& chosen = chosen_kernels();
  if (!chosen.ok()) return chosen.error();
  const Kernel kernel = metric == Metric::l2 ? chosen.value()->l2 : chosen.value()->dot;
  const bool cosine = metric == Metric::cosine;
  const std::vector<float> base_norms = cosine ? inverse_norms(base, dim) : std::vector<float>{};

  // Tasks are (query block, part of base); parts only where query blocks alone would leave threads idle.
  const std::size_t blocks = (queries.count + query_block - 1) / query_block;
  const unsigned cores = workers_for(threads, std::numeric_limits<std::size_t>::max());
  const std::size_t parts =
      blocks >= cores ? 1 : std::max<std::size_t>(1, (base.count + base_part - 1) / base_part);
  std::vector<std::vector<Hit>> heaps(queries.count * parts);
  const std::size_t rows_per_part = (base.count + parts - 1) / parts;
  const std::size_t rows_per_block = std::max<std::size_t>(1, base_block_bytes / (dim * sizeof(float)));

  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};
  run_workers(workers_for(threads, blocks * parts), [&](unsigned worker) {
    std::vector<float> unit(query_block * dim);
    for (;;) {
      const std::size_t task = next.fetch_add(1, std::memory_order_relaxed);
      if (task >= blocks * parts || stop.load(std::memory_order_relaxed)) return;
      const std::size_t part = task % parts;
      const std::size_t first = task / parts * query_block;
      const std::size_t last = std::min(first + query_block, queries.count);
      for (std::size_t q = first; q < last; ++q) {
        const float* query = queries.data + q * dim;
        const float scale = cosine ? inverse_norm(query, dim) : 1.0f;
        for (std::size_t i = 0; i < dim; ++i) unit[(q - first) * dim + i] = query[i] * scale;
      }
      const std::size_t end = std::min((part + 1) * rows_per_part, base.count);
      for (std::size_t row = part * rows_per_part; row < end; row += rows_per_block) {
        const std::size_t block_end = std::min(row + rows_per_block, end);
        for (std::size_t q = first; q < last; ++q) {
          std::vector<Hit>& heap = heaps[q * parts + part];
          for (std::size_t r = row; r < block_end; ++r) {
            const float sum = kernel(&unit[(q - first) * dim], base.data + r * dim, dim);
            const float distance = metric == Metric::l2 ? sum : 1.0f - (cosine ? sum * base_norms[r] : sum);
            offer(heap, k, {distance, static_cast<std::int64_t>(r)});
          }
        }
        if (worker == 0 && keep_going && !keep_going()) {
          stop.store(true, std::memory_order_relaxed);
          return;
        }
      }
    }
  });
  if (stop.load()) return {Code::cancelled, "exact search was stopped"};

  for (std::size_t q = 0; q < queries.count; ++q) {
    std::vector<Hit>& hits = heaps[q * parts];
    for (std::size_t p = 1; p < parts; ++p) {
      for (const Hit& hit : heaps[q * parts + p]) offer(hits, k, hit);
    }
    std::sort_heap(hits.begin(), hits.end(), nearer_hit);
    for (std::size_t i = 0; i < k; ++i) {
      const bool exists = i < hits.size();
      ids[q * k + i] = exists ? hits[i].id : -1;
      distances[q * k + i] = exists ? hits[i].distance : std::numeric_limits<float>::infinity();
    }
  }
  return {};
}

} // namespace embedcore::hnsw
