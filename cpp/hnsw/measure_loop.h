// Distances of several rows at once: sums, what makes them distances, and what the first part of a row rules
// out. Included by walk_loop.h, whose rule holds here too: unnamed namespace, nothing shared.
//
// A Row gives: using Query; static float sum(const Query*, const std::byte* row, std::size_t n). That of u4
// also part(), over the highest bits, and rest(), over the others: sum is part + rest. Where it has sum4,
// judge4 and complete4 they do the same for four rows.
#pragma once

#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

namespace {

inline void prefetch(const void* at) { __builtin_prefetch(at, 0, 3); }

inline float float_at(const std::byte* at) {
  float value;
  __builtin_memcpy(&value, at, sizeof(value));
  return value;
}

struct Four {
  const std::byte* at[4];

  static Four of(const Measure& m, const std::uint32_t* slots) {
    return {{m.rows + slots[0] * m.stride, m.rows + slots[1] * m.stride, m.rows + slots[2] * m.stride,
             m.rows + slots[3] * m.stride}};
  }
  // Of the first n of them, n at least 1: the last one stands for those that are missing.
  static Four of(const Measure& m, const std::uint32_t* slots, std::size_t n) {
    return {{m.rows + slots[0] * m.stride, m.rows + slots[n > 1 ? 1 : 0] * m.stride,
             m.rows + slots[n > 2 ? 2 : n - 1] * m.stride, m.rows + slots[n > 3 ? 3 : n - 1] * m.stride}};
  }
};

template <class Row>
inline float row_sum(const Measure& m, std::uint32_t slot) {
  return Row::sum(static_cast<const typename Row::Query*>(m.query), m.rows + slot * m.stride, m.n);
}

// Four rows at once where the row type can: they share the loads of the query and the last additions.
template <class Row>
inline void row_sums(const Measure& m, const std::uint32_t* slots, std::size_t count, float* sums) {
  std::size_t i = 0;
  if constexpr (requires { Row::sum4; }) {
    for (; i + 4 <= count; i += 4)
      Row::sum4(static_cast<const typename Row::Query*>(m.query), Four::of(m, slots + i), m.n, sums + i);
  }
  for (; i < count; ++i) sums[i] = row_sum<Row>(m, slots[i]);
}

// Sums over rows become distances.
inline void finish(const Measure& m, const std::uint32_t* slots, std::size_t count, float* distances) {
  if (m.factors != nullptr) {
    for (std::size_t i = 0; i < count; ++i) distances[i] *= float_at(m.factors + slots[i] * m.factor_stride);
  }
  for (std::size_t i = 0; i < count; ++i) distances[i] = m.offset + m.scale * distances[i];
  if (m.terms != nullptr) {
    for (std::size_t i = 0; i < count; ++i) distances[i] += float_at(m.terms + slots[i] * m.factor_stride);
  }
}

template <class Row>
void measure(const Measure& m, const std::uint32_t* slots, std::size_t count, float* distances) {
  row_sums<Row>(m, slots, count, distances);
  finish(m, slots, count, distances);
}

// Those of n rows whose first part does not rule them out go to kept, and the sums over the first parts to
// parts; returns how many. Arrays are as long as the next multiple of four.
template <class Row>
inline std::size_t judge(const Measure& m, const std::uint32_t* slots, std::size_t n, float least,
                         std::uint32_t* kept, std::int32_t* parts) {
  const auto* query = static_cast<const typename Row::Query*>(m.query);
  std::size_t count = 0;
  if constexpr (requires { Row::judge4; }) {
    for (std::size_t i = 0; i < n; i += 4)
      count += Row::judge4(query, Four::of(m, slots + i, n - i), m.n, slots + i, n - i, least, kept + count,
                           parts + count);
  } else {
    // Without branches: which node passes cannot be foretold.
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t part = Row::part(query, m.rows + slots[i] * m.stride, m.n);
      kept[count] = slots[i];
      parts[count] = part;
      count += static_cast<float>(part) > least ? 1 : 0;
    }
  }
  return count;
}

// Distances of n rows from the sums over their first parts; arrays as above.
template <class Row>
inline void complete(const Measure& m, const std::uint32_t* slots, const std::int32_t* parts, std::size_t n,
                     float* distances) {
  const auto* query = static_cast<const typename Row::Query*>(m.query);
  if constexpr (requires { Row::complete4; }) {
    for (std::size_t i = 0; i < n; i += 4)
      Row::complete4(query, Four::of(m, slots + i, n - i), m.n, parts + i, m.offset, m.scale, distances + i);
  } else {
    for (std::size_t i = 0; i < n; ++i) {
      const std::int32_t rest = Row::rest(query, m.rows + slots[i] * m.stride, m.n);
      distances[i] = m.offset + m.scale * static_cast<float>(parts[i] + rest);
    }
  }
}

// The sum over the first part that a row nearer than bound exceeds: the scale is negative.
inline float least_part(const Measure& m, float bound) { return (bound - m.part_offset) / m.part_scale; }

} // namespace

} // namespace embedcore::hnsw
