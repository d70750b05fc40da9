// The greedy way down above level 0. Included by walk_loop.h, whose rule holds here too: unnamed namespace,
// nothing shared.
#pragma once

#include "hnsw/measure_loop.h"

namespace embedcore::hnsw {

namespace {

constexpr std::uint32_t slot_bits = ~(std::uint32_t{1} << 31);

// Links are single atomic words that writers may change at any time; this, and load_links of AVX-512, is
// where a walk reads them. Acquire: whatever a link leads to was complete before the link was stored. The top
// bit, which marks links of the tree, is no part of the slot; an empty place holds nothing but set bits.
inline std::uint32_t load_link(const std::uint32_t* link) {
#ifdef EMBEDCORE_PLAIN_LINKS // of a graph that nobody changes: what bench/native/links.cpp compares with
  return *link & slot_bits;
#else
  return __atomic_load_n(link, __ATOMIC_ACQUIRE) & slot_bits;
#endif
}

// Where those of count links lead that are not empty, to out; returns how many. Each kernels_*.cpp has its
// own, which may write up to the next multiple of 16.
inline std::size_t linked(const std::uint32_t* links, std::size_t count, std::uint32_t* out);

[[maybe_unused]] inline std::size_t linked_one_by_one(const std::uint32_t* links, std::size_t count,
                                                      std::uint32_t* out) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < count; ++i) {
    out[n] = load_link(links + i);
    n += out[n] != slot_bits ? 1 : 0;
  }
  return n;
}

// Where in slots the node nearest to the query is, if it is nearer than *bound, which then becomes its
// distance; count if none is.
template <class Row>
inline std::size_t nearest(const Measure& m, const std::uint32_t* slots, std::size_t count, float* bound) {
  constexpr std::size_t chunk = 32;
  std::size_t best = count;
  float distances[chunk];
  std::uint32_t kept[chunk];
  std::int32_t parts[chunk];
  for (std::size_t from = 0; from < count; from += chunk) {
    const std::size_t n = count - from < chunk ? count - from : chunk;
    const std::uint32_t* of = slots + from;
    std::size_t left = n;
    if constexpr (requires { Row::part; }) {
      if (m.part_scale != 0) {
        left = judge<Row>(m, of, n, least_part(m, *bound), kept, parts);
        complete<Row>(m, kept, parts, left, distances);
        of = kept;
      } else {
        measure<Row>(m, of, n, distances);
      }
    } else {
      measure<Row>(m, of, n, distances);
    }
    std::size_t at = left;
    for (std::size_t i = 0; i < left; ++i) {
      const bool nearer = distances[i] < *bound;
      at = nearer ? i : at;
      *bound = nearer ? distances[i] : *bound;
    }
    if (at == left) continue;
    best = from;
    while (slots[best] != of[at]) ++best;
  }
  return best;
}

// To the nearest of the nodes that the present one links to on its level, if one is nearer.
template <class Row>
inline bool move_nearer(Descent& d) {
  constexpr std::size_t chunk = 64;
  std::uint32_t to[chunk];
  std::uint32_t run;
  __builtin_memcpy(&run, d.first_runs + d.slot * d.run_stride, sizeof(run));
  const std::uint32_t* const links = d.links + (std::size_t{run} + d.level - 1) * d.count;
  bool moved = false;
  ++d.hops;
  for (std::size_t from = 0; from < d.count; from += chunk) {
    const std::size_t n = linked(links + from, d.count - from < chunk ? d.count - from : chunk, to);
    for (std::size_t i = 0; i < n; ++i) {
      const std::byte* row = d.measure.rows + to[i] * d.measure.stride;
      for (std::size_t line = 0; line < d.lines; ++line) prefetch(row + 64 * line);
      prefetch(d.first_runs + to[i] * d.run_stride);
    }
    d.computed += n;
    const std::size_t best = nearest<Row>(d.measure, to, n, &d.distance);
    if (best == n) continue;
    d.slot = to[best];
    moved = true;
  }
  return moved;
}

template <class Row>
void descend(Descent& d) {
  for (; d.level > d.last; --d.level) {
    while (move_nearer<Row>(d)) {
      if (d.level != 1) continue;
      const std::byte* below = d.blocks + d.slot * d.block_bytes; // a walk may start here
      for (std::size_t i = 0; i < d.block_lines; ++i) prefetch(below + 64 * i);
    }
  }
}

} // namespace

} // namespace embedcore::hnsw
