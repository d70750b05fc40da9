// Products of many rows with many queries, written once in the compiler's vectors and compiled for each
// instruction set. Included by walk_loop.h, whose rule holds here too: unnamed namespace, nothing shared.
//
// A tile of sums stays in registers while values are read: one vector of queries serves several rows, and
// one broadcast value of a row several vectors. A chunk of the panel stays in the first-level cache while
// all rows pass by.
#pragma once

#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

namespace {

#if defined(__AVX512F__) // 24 of 32 registers hold sums
constexpr std::size_t vector_bytes = 64;
constexpr std::size_t tile_vectors = 2;
constexpr std::size_t tile_rows = 12;
#elif defined(__AVX2__)   // 12 of 16
constexpr std::size_t vector_bytes = 32;
constexpr std::size_t tile_vectors = 2;
constexpr std::size_t tile_rows = 6;
#elif defined(__ARM_NEON) // 16 of 32: with 24, GCC keeps one in memory
constexpr std::size_t vector_bytes = 16;
constexpr std::size_t tile_vectors = 4;
constexpr std::size_t tile_rows = 4;
#else                     // 12 of 16, where there are any
constexpr std::size_t vector_bytes = 16;
constexpr std::size_t tile_vectors = 2;
constexpr std::size_t tile_rows = 6;
#endif
constexpr std::size_t vector_floats = vector_bytes / sizeof(float);
constexpr std::size_t tile_queries = tile_vectors * vector_floats;
constexpr std::size_t most_depth = 24576 / (tile_queries * sizeof(float)); // 24 KiB of a panel

using Lanes [[gnu::vector_size(vector_bytes)]] = float;

inline void load_lanes(Lanes& lanes, const float* at) { __builtin_memcpy(&lanes, at, sizeof(lanes)); }

inline void store_lanes(float* at, const Lanes& lanes) { __builtin_memcpy(at, &lanes, sizeof(lanes)); }

void products(const float* panel, std::size_t n, const float* rows, std::size_t stride, std::size_t count,
              float* out) {
  const std::size_t chunks = (n + most_depth - 1) / most_depth;
  const std::size_t depth = (n + chunks - 1) / chunks;
  for (std::size_t from = 0; from < n; from += depth) {
    const std::size_t values = n - from < depth ? n - from : depth;
    const float* const chunk = panel + from * tile_queries;
    for (std::size_t first = 0; first < count; first += tile_rows) {
      // Past the last row it is read again, and its sums dropped.
      const std::size_t last = count - first - 1;
      const float* row[tile_rows];
      for (std::size_t r = 0; r < tile_rows; ++r)
        row[r] = rows + (first + (r < last ? r : last)) * stride + from;
      float* const target = out + first * tile_queries;

      Lanes sums[tile_rows][tile_vectors] = {};
      if (from != 0) {
        for (std::size_t r = 0; r < tile_rows; ++r) {
          const float* const at = target + (r < last ? r : last) * tile_queries;
          for (std::size_t v = 0; v < tile_vectors; ++v) load_lanes(sums[r][v], at + v * vector_floats);
        }
      }
      for (std::size_t i = 0; i < values; ++i) {
        Lanes queries[tile_vectors];
        for (std::size_t v = 0; v < tile_vectors; ++v) {
          load_lanes(queries[v], chunk + i * tile_queries + v * vector_floats);
        }
        for (std::size_t r = 0; r < tile_rows; ++r) {
          for (std::size_t v = 0; v < tile_vectors; ++v) sums[r][v] += queries[v] * row[r][i];
        }
      }
      // Unrolled, because an index that varies would put the sums in memory.
#pragma GCC unroll 16
      for (std::size_t r = 0; r < tile_rows; ++r) {
        if (r > last) continue;
        for (std::size_t v = 0; v < tile_vectors; ++v) {
          store_lanes(target + r * tile_queries + v * vector_floats, sums[r][v]);
        }
      }
    }
  }
}

bool above(const float* products, const float* scale, const float* shift, const float* cuts,
           std::size_t count) {
  Lanes cut[tile_vectors];
  for (std::size_t v = 0; v < tile_vectors; ++v) load_lanes(cut[v], cuts + v * vector_floats);
  auto below = cut[0] == cut[0]; // lanes of ones: cuts are numbers
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t v = 0; v < tile_vectors; ++v) {
      Lanes value;
      load_lanes(value, products + r * tile_queries + v * vector_floats);
      below &= value * scale[r] + shift[r] < cut[v];
    }
  }
  std::int32_t all = -1;
  for (std::size_t j = 0; j < vector_floats; ++j) all &= below[j];
  return all == 0;
}

constexpr Tile tile = {tile_queries, products, above};

} // namespace

} // namespace embedcore::hnsw
