// The nearest nodes that a walk has met, ascending: where a new one goes, and what is too far to go in.
// Included by walk_loop.h, whose rule holds here too: unnamed namespace, nothing shared.
#pragma once

#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

namespace {

// Sixteen values at any alignment. The attributes stand at the names: behind the = clang drops aligned.
using Floats __attribute__((vector_size(64), aligned(4), may_alias)) = float;
using Words __attribute__((vector_size(64), aligned(4), may_alias)) = std::uint32_t;
static_assert(alignof(Floats) == alignof(float) && alignof(Words) == alignof(std::uint32_t));

// Which of sixteen values are not above x, which are below it, and which of sixteen slots are not expanded,
// as bits; each kernels_*.cpp has its own.
inline std::uint32_t not_above(const float* sixteen, float x);
inline std::uint32_t below(const float* sixteen, float x);
inline std::uint32_t not_expanded(const std::uint32_t* sixteen);

// How many of n ascending values, behind which infinities follow, are not above x.
inline std::size_t rank_of(const float* values, std::size_t n, float x) {
  std::size_t low = 0;
  while (n > 64) {
    const std::size_t half = n / 2;
    low += values[low + half] <= x ? half : 0;
    n -= half;
  }
  std::size_t below = 0;
  for (std::size_t i = 0; i < n; i += 16)
    below += static_cast<unsigned>(__builtin_popcount(not_above(values + low + i, x)));
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

// Puts a node where it belongs among those kept, of which there is one more from then on, up to the capacity;
// returns its place. Each kernels_*.cpp has its own.
inline std::size_t insert(Walk& w, float distance, std::uint32_t slot);

[[maybe_unused]] inline std::size_t insert_by_rank(Walk& w, float distance, std::uint32_t slot) {
  const std::size_t at = rank_of(w.distances, w.size, distance);
  make_room<Floats>(w.distances, at, w.size);
  make_room<Words>(w.slots, at, w.size);
  w.distances[at] = distance;
  w.slots[at] = slot;
  if (w.size < w.capacity) {
    ++w.size;
  } else {
    w.distances[w.capacity] = __builtin_inff(); // the farthest, pushed over the end
  }
  return at;
}

// Where the early stop ends the walk. Pre-condition: w.rank is not 0, and so many were kept.
inline float stop_after(const Walk& w) {
  float ranked = w.distances[w.rank - 1];
  ranked = 2 * ranked < w.floor ? w.floor : ranked;
  return ranked + (w.stretch - 1) * (ranked < 0 ? -ranked : ranked) + w.slack;
}

// Beyond this a node is not worth keeping: the farthest of a full queue, or what the early stop says.
inline float bound_of(const Walk& w) {
  float bound = w.size < w.capacity ? __builtin_inff() : w.distances[w.size - 1];
  if (w.rank != 0 && w.size >= w.rank) {
    const float stop = stop_after(w);
    bound = stop < bound ? stop : bound;
  }
  return bound;
}

} // namespace

} // namespace embedcore::hnsw
