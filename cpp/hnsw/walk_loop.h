// The loops around the distance kernels, written once and compiled for each instruction set: each
// kernels_*.cpp defines its row sums, includes this file and fills its table with make_kernels().
//
// Everything is in an unnamed namespace and calls nothing that the compiler could share with another
// object, so that no function compiled for wide instructions can replace a baseline one at link time.
//
// What a Row gives: measure_loop.h.
#pragma once

#include "hnsw/code_loop.h"
#include "hnsw/descend_loop.h"
#include "hnsw/float_loop.h"
#include "hnsw/kernel_set.h"
#include "hnsw/measure_loop.h"
#include "hnsw/tile_loop.h"
#include "hnsw/walk_queue.h"

namespace embedcore::hnsw {

namespace {

constexpr std::uint32_t expanded = std::uint32_t{1} << 31;

inline void ask_for_links(const Walk& w, std::uint32_t slot) {
  const std::byte* links = w.blocks + slot * w.block_bytes;
  for (std::size_t i = 0; i < w.links; i += 16) prefetch(links + i * sizeof(std::uint32_t));
}

// Half of those that are kept are expanded in the end, and which ones cannot be foretold: the links of all
// are asked for.
inline void push(Walk& w, float distance, std::uint32_t slot) {
  ask_for_links(w, slot);
  const std::size_t at = insert(w, distance, slot);
  w.next = at < w.next ? at : w.next;
}

// Of sixteen nodes those whose bits are set. Each kernels_*.cpp has its own.
inline void push_all(Walk& w, const float* distances, const std::uint32_t* slots, std::uint32_t near);

inline void push_one_by_one(Walk& w, const float* distances, const std::uint32_t* slots, std::uint32_t near) {
  for (; near != 0; near &= near - 1) {
    const auto i = static_cast<unsigned>(__builtin_ctz(near));
    push(w, distances[i], slots[i]);
  }
}

// Only against a bound can the first part of a row rule a node out.
inline bool judges_by_part(const Walk& w) {
  const bool in_parts = w.measure.part_scale != 0 || w.part_dims != 0;
  return in_parts && (w.size == w.capacity || (w.rank != 0 && w.size >= w.rank));
}

// Those of count links (a multiple of 16) whose bits are not set go to out; returns how many. The bit of
// limit is set, and stands for whatever is not below it. Each kernels_*.cpp has its own.
inline std::size_t unseen(const std::uint32_t* links, std::size_t count, const std::uint32_t* seen,
                          std::uint32_t limit, std::uint32_t* out);

[[maybe_unused]] inline std::size_t unseen_one_by_one(const std::uint32_t* links, std::size_t count,
                                                      const std::uint32_t* seen, std::uint32_t limit,
                                                      std::uint32_t* out) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t to = load_link(links + i);
    const std::uint32_t known = to < limit ? to : limit;
    out[n] = to;
    n += (seen[known >> 5] >> (known & 31) & 1) == 0 ? 1 : 0;
  }
  return n;
}

// Sets bit to % 32 of a word; returns count, one more where it was not set. Written out, as compilers make
// eight instructions of it, a third of what it costs to meet a node.
inline std::size_t mark(std::uint32_t& word, std::uint32_t to, std::size_t count) {
#ifdef __x86_64__
  asm("bts %2, %0\n\tsbb $-1, %1" : "+r"(word), "+r"(count) : "r"(to) : "cc");
  return count;
#else
  const std::uint32_t bit = std::uint32_t{1} << (to & 31);
  count += (word & bit) == 0 ? 1 : 0;
  word |= bit;
  return count;
#endif
}

// Of n unseen nodes behind the log's end, among which some may be more than once, the log takes each once.
// Their bits are set and their rows asked for. Apart from unseen(), whose loads of bits would wait for these
// stores, and one loop for all nodes of a step: where a loop ends after a number that cannot be foretold, the
// processor goes wrong, which costs as much as several distances.
inline void meet(Walk& w, std::size_t n) {
  const std::byte* const rows = w.measure.rows;
  const std::size_t stride = w.measure.stride;
  std::uint32_t* const seen = w.seen;
  std::uint32_t* const found = w.log + w.log_size;
  std::size_t kept = 0;
  const auto each = [&](auto ask) {
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint32_t to = found[i];
      std::uint32_t word = seen[to >> 5];
      found[kept] = to;
      kept = mark(word, to, kept);
      seen[to >> 5] = word;
      ask(rows + to * stride);
    }
  };
  const std::size_t lines = judges_by_part(w) ? w.part_lines : w.row_lines;
  if (lines == 1) {
    each([](const std::byte* row) { prefetch(row); });
  } else if (lines == 2) {
    each([](const std::byte* row) { prefetch(row), prefetch(row + 64); });
  } else {
    each([lines](const std::byte* row) {
      for (std::size_t line = 0; line < lines; ++line) prefetch(row + 64 * line);
    });
  }
  w.log_size += kept;
  if (w.measure.factors != nullptr) {
    for (std::size_t i = w.fresh; i < w.log_size; ++i)
      prefetch(w.measure.factors + w.log[i] * w.measure.factor_stride);
  }
}

// A few of the rows that will be read at the end, so that they come while the walk goes on; all at once they
// would keep it waiting.
inline void ask_for_ending(Walk& w) {
  std::size_t end = w.asked + w.beam;
  if (end > w.ending) end = w.ending;
  if (end > w.size) end = w.size;
  for (; w.asked < end; ++w.asked) {
    const std::byte* row = w.ending_rows + (w.slots[w.asked] & slot_bits) * w.ending_stride;
    for (std::size_t line = 0; line < w.ending_lines; ++line) prefetch(row + 64 * line);
  }
}

// The nodes of the queue that are not expanded, nearest first. Sixteen places are looked at together, so that
// how far apart two of them are costs nothing.
class Waiting {
 public:
  explicit Waiting(const Walk& w) : block_(w.next / 16 * 16) { look(w, ~std::uint32_t{0} << w.next % 16); }
  // The place of the nearest; w.size where there is none.
  std::size_t first(const Walk& w) {
    while (bits_ == 0 && block_ < w.size) {
      block_ += 16;
      look(w, ~std::uint32_t{0});
    }
    return bits_ == 0 ? w.size : block_ + static_cast<unsigned>(__builtin_ctz(bits_));
  }
  void leave_first() { bits_ &= bits_ - 1; }

 private:
  void look(const Walk& w, std::uint32_t of) {
    if (block_ >= w.size) return;
    if (w.size - block_ < 16) of &= (std::uint32_t{1} << (w.size - block_)) - 1;
    bits_ = not_expanded(w.slots + block_) & of;
  }

  std::size_t block_;
  std::uint32_t bits_ = 0;
};

// Takes the nearest nodes that are not expanded yet and meets those that they link to; false when there is
// none worth it.
inline bool expand(Walk& w) {
  if (w.log_size + w.beam * w.links > w.log_capacity) {
    w.overflowed = true;
    w.log_size = 0;
  }
  w.fresh = w.log_size;
  const float bound = w.edge = bound_of(w);
  Waiting waiting(w);
  std::size_t taken = 0;
  std::size_t found = 0;
  for (; taken < w.beam; ++taken) {
    w.next = waiting.first(w);
    if (w.next == w.size || (w.rank != 0 && w.distances[w.next] > bound)) break;
    waiting.leave_first();
    const std::uint32_t slot = w.slots[w.next];
    w.slots[w.next] = slot | expanded;
    const auto* links = reinterpret_cast<const std::uint32_t*>(w.blocks + slot * w.block_bytes);
    found += unseen(links, w.links, w.seen, w.limit, w.log + w.log_size + found);
  }
  meet(w, found);
  w.hops += taken;
  if (w.asked < w.ending && w.next >= w.capacity / 2) ask_for_ending(w);
  return taken != 0;
}

// Nodes that the first part of their rows does not rule out go to kept; the rest of their rows is asked for.
// Then their distances go to buffer.
template <class Row>
inline std::size_t measure_in_parts(Walk& w, const std::uint32_t* fresh, std::size_t n, float bound) {
  const Measure& m = w.measure;
  const std::size_t count = judge<Row>(m, fresh, n, least_part(m, bound), w.kept, w.parts);
  for (std::size_t i = 0; i < count; ++i) {
    const std::byte* row = m.rows + w.kept[i] * m.stride;
    for (std::size_t line = w.part_lines; line < w.row_lines; ++line) prefetch(row + 64 * line);
  }
  complete<Row>(m, w.kept, w.parts, count, w.buffer);
  return count;
}

// Computes the distances of what was gathered and keeps the near ones.
template <class Row>
inline void score(Walk& w) {
  const std::uint32_t* fresh = w.log + w.fresh;
  std::size_t n = w.log_size - w.fresh;
  w.computed += n;
  float bound = bound_of(w);
  bool in_parts = false;
  if constexpr (requires { Row::part; }) {
    in_parts = judges_by_part(w);
    if (in_parts) n = measure_in_parts<Row>(w, fresh, n, bound);
  } else if constexpr (requires { Row::bytes; }) {
    in_parts = judges_by_part(w);
    if (in_parts) n = measure_part_by_part<Row>(w, fresh, n, bound);
  }
  if (in_parts) {
    fresh = w.kept;
  } else {
    measure_gathered<Row>(w, fresh, n);
  }
  for (std::size_t from = 0; from < n; from += 16) {
    // Not after each that is kept: that costs more than the few that it would spare.
    if (from != 0) bound = bound_of(w);
    std::uint32_t near = below(w.buffer + from, bound);
    if (n - from < 16) near &= (1u << (n - from)) - 1;
    push_all(w, w.buffer + from, fresh + from, near);
  }
}

template <class Row>
std::size_t walk(Walk* const* walks, std::size_t count) {
  for (std::size_t i = 0;; i = i + 1 < count ? i + 1 : 0) {
    score<Row>(*walks[i]);
    if (!expand(*walks[i])) return i;
  }
}

// Rows: a class template over Sum for each form.
template <template <Sum> class F32, template <Sum> class F16, template <Sum> class Bf16,
          template <Sum> class S8, template <Sum> class I8, template <Sum> class I7, template <Sum> class U4>
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
           {measure<I7<d>>, measure<I7<l>>},
           {measure<U4<d>>, measure<U4<l>>}},
          {{descend<F32<d>>, descend<F32<l>>},
           {descend<F16<d>>, descend<F16<l>>},
           {descend<Bf16<d>>, descend<Bf16<l>>},
           {descend<S8<d>>, descend<S8<l>>},
           {descend<I8<d>>, descend<I8<l>>},
           {descend<I7<d>>, descend<I7<l>>},
           {descend<U4<d>>, descend<U4<l>>}},
          {{walk<F32<d>>, walk<F32<l>>},
           {walk<F16<d>>, walk<F16<l>>},
           {walk<Bf16<d>>, walk<Bf16<l>>},
           {walk<S8<d>>, walk<S8<l>>},
           {walk<I8<d>>, walk<I8<l>>},
           {walk<I7<d>>, walk<I7<l>>},
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
