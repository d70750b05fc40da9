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
#include <mutex>
#include <vector>

#include "hnsw/exact_group.h"
#include "hnsw/parallel.h"
#include "hnsw/validate.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t most_queries = 256;                // of one task
constexpr std::size_t part_bytes = std::size_t{1} << 20; // of base, least for a task
constexpr std::size_t tasks_per_worker = 4;              // so that all end at about the same time

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
