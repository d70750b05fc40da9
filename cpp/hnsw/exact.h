// Exact search: every query against every vector. The ground truth that recall is measured against.
#pragma once

#include <cstdint>
#include <functional>

#include "hnsw/index.h"
#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

struct Rows {
  const float* data; // row-major (count, dim)
  std::size_t count;
};

// ids and distances: (queries.count, k). An id is the row number in base; equal distances are ordered by it.
// Where base has fewer than k rows: id -1, distance infinite. threads = 0: all cores. keep_going is polled
// on the calling thread; false cancels. Queries are to be such as check_vectors accepts; rows of the base are
// checked as they come from memory, and the first that it refuses is named (ids and distances are then
// unspecified).
Status exact_search(Metric metric, std::uint32_t dim, Rows base, Rows queries, std::size_t k,
                    unsigned threads, const std::function<bool()>& keep_going, std::int64_t* ids,
                    float* distances);
// The same with one set of kernels; runs_here() must hold for it.
Status exact_search(const Kernels& kernels, Metric metric, std::uint32_t dim, Rows base, Rows queries,
                    std::size_t k, unsigned threads, const std::function<bool()>& keep_going,
                    std::int64_t* ids, float* distances);

} // namespace embedcore::hnsw
