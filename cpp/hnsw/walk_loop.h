// The loops around the distance kernels, written once and compiled for each instruction set: each
// kernels_*.cpp defines its row sums, includes this file and fills its table with make_kernels().
//
// Everything is in an unnamed namespace and calls nothing that the compiler could share with another
// object, so that no function compiled for wide instructions can replace a baseline one at link time.
//
// A Row gives: using Query; static float sum(const Query*, const std::byte* row, std::size_t n). That of u4
// also part(), over the highest bits, and rest(), over the others: sum is part + rest.
#pragma once

#include "hnsw/kernel_set.h"
#include "hnsw/tile_loop.h"

namespace embedcore::hnsw {

namespace {

constexpr std::uint32_t expanded = std::uint32_t{1} << 31;

inline void prefetch(const void* at) { __builtin_prefetch(at, 0, 3); }

constexpr std::uint32_t slot_bits = ~(std::uint32_t{1} << 31);

// Links are single atomic words that writers may change at any time; this, and load_links of AVX-512, is
// where a walk reads them. Acquire: whatever a link leads to was complete before the link was stored. The top
// bit, which marks links of the tree, is no part of the slot.
inline std::uint32_t load_link(const std::uint32_t* link) {
#ifdef EMBEDCORE_PLAIN_LINKS // of a graph that nobody changes: what bench/native/links.cpp compares with
  return *link & slot_bits;
#else
  return __atomic_load_n(link, __ATOMIC_ACQUIRE) & slot_bits;
#endif
}

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

template <class Row>
void measure(const Measure& m, const std::uint32_t* slots, std::size_t count, float* distances) {
  row_sums<Row>(m, slots, count, distances);
  if (m.factors != nullptr) {
    for (std::size_t i = 0; i < count; ++i) distances[i] *= float_at(m.factors + slots[i] * m.factor_stride);
  }
  for (std::size_t i = 0; i < count; ++i) distances[i] = m.offset + m.scale * distances[i];
  if (m.terms != nullptr) {
    for (std::size_t i = 0; i < count; ++i) distances[i] += float_at(m.terms + slots[i] * m.factor_stride);
  }
}

// Sixteen values at any alignment. The attributes stand at the names: behind the = clang drops aligned.
using Floats __attribute__((vector_size(64), aligned(4), may_alias)) = float;
using Words __attribute__((vector_size(64), aligned(4), may_alias)) = std::uint32_t;
static_assert(alignof(Floats) == alignof(float) && alignof(Words) == alignof(std::uint32_t));

// How many of sixteen values are not above x; each kernels_*.cpp has its own.
inline unsigned not_above(const float* sixteen, float x);

// How many of n ascending values, behind which infinities follow, are not above x.
inline std::size_t rank_of(const float* values, std::size_t n, float x) {
  std::size_t low = 0;
  while (n > 64) {
    const std::size_t half = n / 2;
    low += values[low + half] <= x ? half : 0;
    n -= half;
  }
  std::size_t below = 0;
  for (std::size_t i = 0; i < n; i += 16) below += not_above(values + low + i, x);
  return low + below;
}

// Moves values [at, size) up by one; what lies behind them moves too, up to sixteen places. A block is read
// before the one ahead of it is written over its first place.
template <class Sixteen, class T>
inline void make_room(T* values, std::size_t at, std::size_t size) {
  // Copied, not cast: of a type that comes as an argument clang forgets that it may lie at any alignment.
  Sixteen block;
  __builtin_memcpy(&block, values + at, sizeof(block));
  for (; at < size; at += 16) {
    Sixteen next;
    __builtin_memcpy(&next, values + at + 16, sizeof(next));
    __builtin_memcpy(values + at + 1, &block, sizeof(block));
    block = next;
  }
}

inline void ask_for_links(const Walk& w, std::uint32_t slot) {
  const std::byte* links = w.blocks + slot * w.block_bytes;
  for (std::size_t i = 0; i < w.links; i += 16) prefetch(links + i * sizeof(std::uint32_t));
}

inline void push(Walk& w, float distance, std::uint32_t slot) {
  const std::size_t at = rank_of(w.distances, w.size, distance);
  if (at < w.next + w.beam) ask_for_links(w, slot); // likely to be expanded soon
  make_room<Floats>(w.distances, at, w.size);
  make_room<Words>(w.slots, at, w.size);
  w.distances[at] = distance;
  w.slots[at] = slot;
  if (w.size < w.capacity) {
    ++w.size;
  } else {
    w.distances[w.capacity] = __builtin_inff(); // the farthest, pushed over the end
  }
  w.next = at < w.next ? at : w.next;
}

// Beyond this a node is not worth keeping: the farthest of a full queue, or what the early stop says.
inline float bound_of(const Walk& w) {
  float bound = w.size < w.capacity ? __builtin_inff() : w.distances[w.size - 1];
  if (w.rank != 0 && w.size >= w.rank) {
    const float ranked = w.distances[w.rank - 1];
    const float stop = ranked + (w.stretch - 1) * (ranked < 0 ? -ranked : ranked) + w.slack;
    bound = stop < bound ? stop : bound;
  }
  return bound;
}

// Only against a bound can the first part of a row rule a node out.
inline bool judges_by_part(const Walk& w) {
  return w.measure.part_scale != 0 && (w.size == w.capacity || (w.rank != 0 && w.size >= w.rank));
}

// Those of count links (a multiple of 16) whose bits are not set go to out, their bits are set; returns how
// many. The bit of limit is set, and stands for whatever is not below it. Each kernels_*.cpp has its own.
inline std::size_t unseen(const std::uint32_t* links, std::size_t count, std::uint32_t* seen,
                          std::uint32_t limit, std::uint32_t* out);

[[maybe_unused]] inline std::size_t unseen_one_by_one(const std::uint32_t* links, std::size_t count,
                                                      std::uint32_t* seen, std::uint32_t limit,
                                                      std::uint32_t* out) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t to = load_link(links + i);
    const std::uint32_t known = to < limit ? to : limit;
    const std::uint32_t word = seen[known >> 5];
    const std::uint32_t bit = std::uint32_t{1} << (known & 31);
    out[n] = to;
    n += (word & bit) == 0 ? 1 : 0;
    seen[known >> 5] = word | bit;
  }
  return n;
}

// Marks the nodes that slot links to as seen, appends the new ones to the log and asks for their rows.
inline void gather(Walk& w, std::uint32_t slot) {
  const auto* links = reinterpret_cast<const std::uint32_t*>(w.blocks + slot * w.block_bytes);
  const std::uint32_t* const out = w.log + w.log_size;
  const std::size_t n = unseen(links, w.links, w.seen, w.limit, w.log + w.log_size);
  w.log_size += n;
  const std::size_t lines = judges_by_part(w) ? w.part_lines : w.row_lines;
  for (std::size_t i = 0; i < n; ++i) {
    const std::byte* row = w.measure.rows + out[i] * w.measure.stride;
    prefetch(row);
    for (std::size_t line = 1; line < lines; ++line) prefetch(row + 64 * line);
  }
  if (w.measure.factors != nullptr) {
    for (std::size_t i = 0; i < n; ++i) prefetch(w.measure.factors + out[i] * w.measure.factor_stride);
  }
}

// Takes the nearest nodes that are not expanded yet and gathers what they link to; false when there is
// none worth it.
inline bool expand(Walk& w) {
  if (w.log_size + w.beam * w.links > w.log_capacity) {
    w.overflowed = true;
    w.log_size = 0;
  }
  w.fresh = w.log_size;
  const float bound = bound_of(w);
  std::size_t taken = 0;
  while (taken < w.beam) {
    while (w.next < w.size && (w.slots[w.next] & expanded) != 0) ++w.next;
    if (w.next == w.size || (w.rank != 0 && w.distances[w.next] > bound)) break;
    const std::uint32_t slot = w.slots[w.next];
    w.slots[w.next++] |= expanded;
    ++taken;
    gather(w, slot);
  }
  w.hops += taken;
  // What is nearest now is likely to be expanded next.
  std::size_t likely = w.next;
  for (std::size_t asked = 0; asked < w.beam && likely < w.size; ++likely) {
    if ((w.slots[likely] & expanded) != 0) continue;
    ask_for_links(w, w.slots[likely]);
    ++asked;
  }
  return taken != 0;
}

constexpr std::size_t part_chunk = 8;

// Nodes that the first part of their rows does not rule out go to kept; the rest of their rows is asked for.
// Then their distances go to buffer.
template <class Row>
inline std::size_t measure_in_parts(Walk& w, const std::uint32_t* fresh, std::size_t n, float bound) {
  const Measure& m = w.measure;
  const auto* query = static_cast<const typename Row::Query*>(m.query);
  std::int32_t* const parts = w.parts;
  std::uint32_t* const kept = w.kept;
  const float least = (bound - m.part_offset) / m.part_scale; // the scale is negative
  std::size_t count = 0;
  // Some at a time, so that the rest of the first comes while the parts of the last are summed.
  for (std::size_t from = 0; from < n; from += part_chunk) {
    const std::size_t end = n - from < part_chunk ? n : from + part_chunk;
    std::int32_t sums[part_chunk];
    std::size_t i = from;
    if constexpr (requires { Row::part4; }) {
      for (; i + 4 <= end; i += 4) Row::part4(query, Four::of(m, fresh + i), m.n, sums + (i - from));
    }
    for (; i < end; ++i) sums[i - from] = Row::part(query, m.rows + fresh[i] * m.stride, m.n);
    const std::size_t first = count;
    // Without branches: which node passes cannot be foretold.
    for (i = from; i < end; ++i) {
      const std::int32_t part = sums[i - from];
      kept[count] = fresh[i];
      parts[count] = part;
      count += static_cast<float>(part) > least ? 1 : 0;
    }
    for (i = first; i < count; ++i) {
      const std::byte* row = m.rows + kept[i] * m.stride;
      for (std::size_t line = w.part_lines; line < w.row_lines; ++line) prefetch(row + 64 * line);
    }
  }
  std::size_t i = 0;
  if constexpr (requires { Row::rest4; }) {
    for (; i + 4 <= count; i += 4) {
      std::int32_t rests[4];
      Row::rest4(query, Four::of(m, kept + i), m.n, rests);
      for (std::size_t j = 0; j < 4; ++j)
        w.buffer[i + j] = m.offset + m.scale * static_cast<float>(parts[i + j] + rests[j]);
    }
  }
  for (; i < count; ++i) {
    const std::int32_t rest = Row::rest(query, m.rows + kept[i] * m.stride, m.n);
    w.buffer[i] = m.offset + m.scale * static_cast<float>(parts[i] + rest);
  }
  return count;
}

// Computes the distances of what was gathered and keeps the near ones.
template <class Row>
inline void score(Walk& w) {
  const std::uint32_t* fresh = w.log + w.fresh;
  std::size_t n = w.log_size - w.fresh;
  w.computed += n;
  float bound = bound_of(w);
  if constexpr (requires { Row::part; }) {
    if (judges_by_part(w)) {
      n = measure_in_parts<Row>(w, fresh, n, bound);
      fresh = w.kept;
    } else {
      measure<Row>(w.measure, fresh, n, w.buffer);
    }
  } else {
    measure<Row>(w.measure, fresh, n, w.buffer);
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (!(w.buffer[i] < bound)) continue;
    push(w, w.buffer[i], fresh[i]);
    bound = bound_of(w);
  }
}

template <class Row>
std::size_t walk(Walk* const* walks, std::size_t count) {
  for (std::size_t i = 0;; i = i + 1 < count ? i + 1 : 0) {
    score<Row>(*walks[i]);
    if (!expand(*walks[i])) return i;
  }
}

// Where in slots the node nearest to the query is, if it is nearer than *bound, which then becomes its
// distance; count if none is.
template <class Row>
std::size_t nearest(const Measure& m, const std::uint32_t* slots, std::size_t count, float* bound) {
  constexpr std::size_t chunk = 32;
  std::size_t best = count;
  float distances[chunk];
  std::uint32_t kept[chunk];
  std::size_t places[chunk];
  for (std::size_t from = 0; from < count; from += chunk) {
    const std::size_t n = count - from < chunk ? count - from : chunk;
    std::size_t left = 0;
    if constexpr (requires { Row::part; }) {
      const auto* query = static_cast<const typename Row::Query*>(m.query);
      const float least = m.part_scale != 0 ? (*bound - m.part_offset) / m.part_scale : 0;
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint32_t slot = slots[from + i];
        if (m.part_scale != 0 && static_cast<float>(Row::part(query, m.rows + slot * m.stride, m.n)) <= least)
          continue;
        kept[left] = slot;
        places[left++] = from + i;
      }
    } else {
      for (; left < n; ++left) {
        kept[left] = slots[from + left];
        places[left] = from + left;
      }
    }
    measure<Row>(m, kept, left, distances);
    for (std::size_t i = 0; i < left; ++i) {
      if (!(distances[i] < *bound)) continue;
      *bound = distances[i];
      best = places[i];
    }
  }
  return best;
}

std::size_t quantise(const float* x, const float* mean, float inverse, int limit, std::size_t n,
                     std::int8_t* out) {
  const auto most = static_cast<float>(limit);
  std::uint32_t cut = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float value = (mean == nullptr ? x[i] : x[i] - mean[i]) * inverse;
    cut += (value > most ? 1u : 0u) + (value < -most ? 1u : 0u);
    const float low = value < most ? value : most;
    const float kept = low > -most ? low : -most;
    out[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(kept + (kept < 0 ? -0.5f : 0.5f)));
  }
  return cut;
}

float largest(const float* x, std::size_t n) {
  Floats most{};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const Floats v = *reinterpret_cast<const Floats*>(x + i);
    const Floats magnitude = v < 0 ? -v : v;
    most = magnitude > most ? magnitude : most;
  }
  float result = 0;
  for (std::size_t j = 0; j < 16; ++j) result = most[j] > result ? most[j] : result;
  for (; i < n; ++i) {
    const float magnitude = x[i] < 0 ? -x[i] : x[i];
    result = magnitude > result ? magnitude : result;
  }
  return result;
}

template <class U4>
void unpack(const std::byte* u4, std::size_t n, std::uint8_t* out) {
  if constexpr (requires { U4::unpack; }) {
    U4::unpack(u4, n, out);
    return;
  }
  const auto* high = reinterpret_cast<const std::uint8_t*>(u4);
  const std::uint8_t* pairs = high + n / 8;
  const std::uint8_t* low = pairs + n / 4;
  for (std::size_t d = 0; d < n; d += 128, high += 16, pairs += 32, low += 16, out += 128) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      for (std::size_t i = 0; i < 16; ++i) {
        const unsigned ends = (high[i] >> bit & 1u) << 7 | (low[i] >> bit & 1u) << 4;
        out[16 * bit + i] = static_cast<std::uint8_t>(ends);
      }
    }
    for (unsigned field = 0; field < 4; ++field) {
      for (std::size_t i = 0; i < 32; ++i) {
        const unsigned middle = (pairs[i] >> 2 * field & 3u) << 5;
        out[32 * field + i] = static_cast<std::uint8_t>(out[32 * field + i] | middle);
      }
    }
  }
}

// Rows: a class template over Sum for each form.
template <template <Sum> class F32, template <Sum> class F16, template <Sum> class Bf16,
          template <Sum> class S8, template <Sum> class I8, template <Sum> class U4>
constexpr Kernels make_kernels(const char* name, float (*dot)(const float*, const float*, std::size_t),
                               float (*l2)(const float*, const float*, std::size_t)) {
  constexpr Sum d = Sum::dot;
  constexpr Sum l = Sum::l2;
  return {name,
          {{measure<F32<d>>, measure<F32<l>>},
           {measure<F16<d>>, measure<F16<l>>},
           {measure<Bf16<d>>, measure<Bf16<l>>},
           {measure<S8<d>>, measure<S8<l>>},
           {measure<I8<d>>, measure<I8<l>>},
           {measure<U4<d>>, measure<U4<l>>}},
          {{nearest<F32<d>>, nearest<F32<l>>},
           {nearest<F16<d>>, nearest<F16<l>>},
           {nearest<Bf16<d>>, nearest<Bf16<l>>},
           {nearest<S8<d>>, nearest<S8<l>>},
           {nearest<I8<d>>, nearest<I8<l>>},
           {nearest<U4<d>>, nearest<U4<l>>}},
          {{walk<F32<d>>, walk<F32<l>>},
           {walk<F16<d>>, walk<F16<l>>},
           {walk<Bf16<d>>, walk<Bf16<l>>},
           {walk<S8<d>>, walk<S8<l>>},
           {walk<I8<d>>, walk<I8<l>>},
           {walk<U4<d>>, walk<U4<l>>}},
          quantise,
          dot,
          l2,
          largest,
          unpack<U4<l>>,
          tile};
}

} // namespace

} // namespace embedcore::hnsw
