// Rows of floats, which are many lines of memory each: whole, or some dimensions at a time. Included by
// walk_loop.h, whose rule holds here too: unnamed namespace, nothing shared.
#pragma once

#include "hnsw/kernel_set.h"
#include "hnsw/measure_loop.h"

namespace embedcore::hnsw {

namespace {

// Of what a walk has gathered, whole rows. Of those of many lines only the first were asked for there: all of
// them at once are more than can be on their way. The others are asked for a few rows before their turn.
template <class Row>
inline void measure_gathered(const Walk& w, const std::uint32_t* slots, std::size_t count) {
  const Measure& m = w.measure;
  if (w.later_lines == 0) return measure<Row>(m, slots, count, w.buffer);
  const auto ask = [&](std::size_t i) {
    const std::byte* row = m.rows + slots[i] * m.stride + 64 * w.row_lines;
    for (std::size_t line = 0; line < w.later_lines; ++line) prefetch(row + 64 * line);
  };
  for (std::size_t i = 0; i < count; ++i) {
    if (i + w.ahead < count) ask(i + w.ahead);
    w.buffer[i] = row_sum<Row>(m, slots[i]);
  }
  finish(m, slots, count, w.buffer);
}

// Against a bound, part by part: rows that the parts so far rule out are read no further. The others go to
// kept, their distances to buffer; returns how many. Rows have no terms.
template <class Row>
inline std::size_t measure_part_by_part(Walk& w, const std::uint32_t* slots, std::size_t count, float bound) {
  const Measure& m = w.measure;
  const auto* query = static_cast<const typename Row::Query*>(m.query);
  std::size_t part = 0;
  for (std::size_t from = 0; from < m.n; from += w.part_dims, ++part) {
    const bool last = m.n - from <= w.part_dims;
    const std::size_t dims = last ? m.n - from : w.part_dims;
    const bool rules = !last && bound >= w.part_floors[part];
    const float most = rules ? bound * w.part_slopes[part] + w.part_shifts[part] : __builtin_inff();
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count; ++i) { // without branches: which row stays cannot be foretold
      const std::uint32_t slot = slots[i];
      float sum = Row::sum(query + from, m.rows + slot * m.stride + from * Row::bytes, dims);
      if (from != 0) sum += w.buffer[i];
      const float factor = m.factors == nullptr ? 1.0f : float_at(m.factors + slot * m.factor_stride);
      w.kept[kept] = slot;
      w.buffer[kept] = sum;
      kept += m.offset + m.scale * factor * sum > most ? 0 : 1;
    }
    count = kept;
    slots = w.kept;
    if (last) break;
    const std::size_t left = m.n - from - dims;
    const std::size_t bytes = (left < w.part_dims ? left : w.part_dims) * Row::bytes;
    for (std::size_t i = 0; i < count; ++i) {
      const std::byte* next = m.rows + slots[i] * m.stride + (from + dims) * Row::bytes;
      for (std::size_t at = 0; at < bytes; at += 64) prefetch(next + at);
    }
  }
  finish(m, slots, count, w.buffer);
  return count;
}

} // namespace

} // namespace embedcore::hnsw
