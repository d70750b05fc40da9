// What one instruction set provides. Plain data and function pointers only: no inline code, and none is
// included, because this is all that the files compiled for wide instructions see.
#pragma once

#include <cstddef>
#include <cstdint>

namespace embedcore::hnsw {

// How rows are kept, and what a query against them is.
//
//   form   row                                            query           n
//   f32    n float32                                      n float32       any
//   f16    n IEEE half                                    n float32       any
//   bf16   n bfloat16 (upper half of a float32)           n float32       any
//   s8     n int8 in -127..127, zeros up to the next 64,  n float32       any
//          then the row's Scales; value = step * int8
//   i8     n int8 in -127..127                            n int8, same    multiple of 64
//   i7     n int8 in -63..63, of which any two differ by  n int8, same    multiple of 64
//          what a byte holds
//   u4     n / 2 bytes, values 0..15 in bit planes        dot: n int8     multiple of 128
//          (below)                                        l2: n uint8
//
// The planes of u4, each for all dimensions before the next, so that the highest bits, which say most, can be
// read alone; dimension d = 128 block + rest:
//   bit 3      16 bytes a block   bit rest / 16 of byte rest % 16
//   bits 2, 1  32 bytes a block   the pair rest / 32 of byte rest % 32
//   bit 0      16 bytes a block   as bit 3
//
// Padding of i8, i7 and u4 is zero in rows, and in queries whatever adds nothing: 0 (for l2 of u4 too).
enum class Form : std::uint8_t { f32 = 0, f16, bf16, s8, i8, i7, u4 };
constexpr std::size_t forms = 7;

// dot: sum of q * r. l2: sum of (q - r)^2, for u4 of (q - 16 r)^2, for s8 of (q - step * r)^2.
enum class Sum : std::uint8_t { dot = 0, l2 };
constexpr std::size_t sums = 2;

struct Scales { // behind an s8 row, at its next multiple of 64 bytes
  float step;   // value of one unit
  float factor; // what makes the metric's dot of the row's integers: see Dtype in originals.h
  float term;   // what it adds
};

// Distances from one query to rows: offset + scale * sum * factor(row) + term(row).
struct Measure {
  const void* query;
  std::size_t n;
  const std::byte* rows; // the row of slot s lies at rows + s * stride
  std::size_t stride;
  float offset;
  float scale;
  const std::byte* factors; // one float at factors + s * factor_stride; null: 1
  std::size_t factor_stride;
  const std::byte* terms; // likewise, with the same stride; null: 0
  // Of dot over u4: part_offset + part_scale * (8 * sum over the highest bits) is a distance that the true
  // one is very rarely below. part_scale 0: there is no such estimate; otherwise there are no factors and
  // terms.
  float part_offset;
  float part_scale;
};

using MeasureKernel = void (*)(const Measure& measure, const std::uint32_t* slots, std::size_t count,
                               float* distances);

// A greedy way down above level 0: on each level to the nearest of the linked nodes, as long as one is
// nearer. One that the estimate by highest bits rules out is not looked at further.
struct Descent {
  Measure measure;
  std::size_t lines; // of a row, to ask for when its node is met
  // The graph: the links of slot s on level l are the `count` words at links + (run + l - 1) * count, run
  // being the word at first_runs + s * run_stride. Empty ones hold nothing but set bits; the top bit of
  // others is disregarded.
  const std::uint32_t* links;
  std::size_t count;
  const std::byte* first_runs;
  std::size_t run_stride;
  // Its level 0, of which block_lines lines from blocks + s * block_bytes on are asked for.
  const std::byte* blocks;
  std::size_t block_bytes;
  std::size_t block_lines;
  std::uint32_t level; // where the way goes on
  std::uint32_t last;  // the level on which it ends: nothing is looked at there
  std::uint32_t slot;
  float distance;
  std::uint64_t hops;
  std::uint64_t computed;
};

using DescentKernel = void (*)(Descent& descent);

// Values are moved sixteen and compared up to 64 at a time, so arrays of a walk go on behind their ends.
constexpr std::size_t walk_margin = 64;

// Parts that float rows may be summed in, but for the last.
constexpr std::size_t most_part_limits = 7;

// One best-first walk on level 0 as it stands between two steps. Invariants: distances ascend; slots
// carry the top bit once expanded; everything before next is expanded.
struct Walk {
  Measure measure;
  std::size_t row_lines;   // cache lines of a row to ask for when its node is met
  std::size_t part_lines;  // those of its first part, where nodes are ruled out by that
  std::size_t later_lines; // those to ask for when the row `ahead` of it is summed; 0: none
  std::size_t ahead;
  std::size_t part_dims; // of float rows, which are summed in parts against a bound; 0: whole
  // After each part but the last a row is given up whose distance so far is above slope * bound + shift;
  // unless the bound is below the floor.
  float part_slopes[most_part_limits];
  float part_shifts[most_part_limits];
  float part_floors[most_part_limits];
  // The graph: the links of slot s are the first `links` words at blocks + s * block_bytes, the top bit of
  // which is disregarded; unused ones hold a number that is not below limit. links is a multiple of 16 and at
  // most most_links.
  const std::byte* blocks;
  std::size_t block_bytes;
  std::size_t links;
  // Nodes met: one bit each. Slots from limit on came after the walk began and are passed over; the bit of
  // limit itself is set. log holds the slots whose bits were set, unless it overflowed.
  std::uint32_t* seen;
  std::uint32_t limit;
  std::uint32_t* log;
  std::size_t log_size;
  std::size_t log_capacity; // at least 2 * beam * links
  bool overflowed;
  std::size_t fresh;   // from here on the log holds nodes whose distances are still to be computed; at first
                       // log_size
  float* buffer;       // beam * links distances
  std::uint32_t* kept; // as many nodes: those whose first part of the row did not rule them out
  std::int32_t* parts; // and the sums over those first parts
  // The nearest `capacity` (at least 1) met; room for walk_margin more, in which distances are infinite.
  // Fastest where both arrays begin at a multiple of 64 bytes.
  float* distances;
  std::uint32_t* slots;
  std::size_t size;
  std::size_t capacity;
  std::size_t next;
  std::size_t beam; // nodes expanded per step
  // Ends early when the next node is farther than d + (stretch - 1) |d| + slack, d being the distance of the
  // rank-th nearest, or floor where that is more than twice as far; the same bound keeps farther nodes out.
  // rank 0: never.
  std::size_t rank;
  float floor;
  float stretch;
  float slack;
  float edge; // what is farther was not kept, as of the last step
  // Rows that will be read when the walk has ended: those of the nearest `ending` nodes, `ending_lines` of
  // each, are asked for a few a step, once half of what is kept has been expanded. ending 0: none.
  const std::byte* ending_rows;
  std::size_t ending_stride;
  std::size_t ending_lines;
  std::size_t ending;
  std::size_t asked; // for how many so far
  std::uint64_t hops;
  std::uint64_t computed;
};

// Goes on with several walks in turn, so that one computes while the others wait for memory, until one of
// them has ended; returns which. Pre-condition: count is at least 1 and none of them has ended.
using WalkKernel = std::size_t (*)(Walk* const* walks, std::size_t count);

// Products of a panel of queries with rows of n floats. A panel holds value i of query j at i * queries + j,
// at any alignment. products: out[r * queries + j] = sum over i of query j and the row at
// rows + r * stride, r < count; n at least 1. above: whether one product of row r and query j has
// !(product * scale[r] + shift[r] < cuts[j]).
struct Tile {
  std::size_t queries;
  void (*products)(const float* panel, std::size_t n, const float* rows, std::size_t stride,
                   std::size_t count, float* out);
  bool (*above)(const float* products, const float* scale, const float* shift, const float* cuts,
                std::size_t count);
};

struct Kernels {
  const char* name;
  MeasureKernel measure[forms][sums];
  DescentKernel descend[forms][sums];
  WalkKernel walk[forms][sums];
  // out[i] = (x[i] - mean[i]) * inverse, rounded to the nearest whole number and cut off at +-limit; mean may
  // be null. Returns how many were cut off.
  std::size_t (*quantise)(const float* x, const float* mean, float inverse, int limit, std::size_t n,
                          std::int8_t* out);
  // Sums over n floats, at any alignment.
  float (*dot)(const float* a, const float* b, std::size_t n);
  float (*l2)(const float* a, const float* b, std::size_t n);
  float (*largest)(const float* x, std::size_t n); // max |x[i]|; NaN counts as 0
  void (*unpack)(const std::byte* u4, std::size_t n,
                 std::uint8_t* out); // 16 times the values of n dimensions
  Tile tile;
};

extern const Kernels kernels_scalar;
#ifdef EMBEDCORE_X86
extern const Kernels kernels_avx2;   // AVX2, FMA, F16C
extern const Kernels kernels_avx512; // AVX-512 F, BW, VL, VNNI
#endif
#ifdef EMBEDCORE_NEON
extern const Kernels kernels_neon; // what every 64-bit ARM has
#endif

} // namespace embedcore::hnsw
