// Walking the graph: greedy descent above level 0, best-first search within a level. Reads links with
// acquire loads and takes no lock; the caller holds an epoch guard.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "hnsw/probe.h"
#include "hnsw/scratch.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

// From start, whose distance is given, on each level from the given one down to the one above the last, to a
// node none of whose neighbours there is nearer. Pre-condition: start is not below the level.
Candidate descend(const Storage& storage, const Probe& probe, Candidate start, std::uint32_t level,
                  std::uint32_t last, Scratch& scratch);

// Best-first on a level above 0 from the candidates already in scratch.queue (and in visited): afterwards
// the queue holds the nearest nodes met, tombstones included.
void walk_upper(const Storage& storage, const Probe& probe, std::uint32_t level, Scratch& scratch);

// How far a walk on level 0 goes.
struct Breadth {
  std::size_t capacity; // the nearest so many are kept; it ends when all of them are expanded
  std::size_t beam = 1; // nodes expanded per step: more of them hide more of the memory's latency
  // Ends when what is next lies beyond stretch times the rank-th nearest, and slack; rank 0: never. One
  // that is less than half as far as the floor counts as the floor.
  std::size_t rank = 0;
  float floor = -std::numeric_limits<float>::infinity();
  float stretch = 1;
  float slack = 0;
};

// A walk on level 0 in the kernels, in scratch.walk: begin it, give it where to start, run it (alone or with
// others: Probe::walk), read its queue, end it. Tombstones are kept like other nodes.
void begin_walk(const Storage& storage, const Probe& probe, const Breadth& breadth, Scratch& scratch);
void start_at(Candidate start, Scratch& scratch);
void end_walk(Scratch& scratch);

// What a walk may return.
struct Admission {
  const IdFilter* filter = nullptr;
  std::uint64_t since = 0; // tombstones made by a switch after this one go to scratch.died
  // Goes on through everything nearer than this, however much it is.
  float radius = -std::numeric_limits<float>::infinity();

  [[nodiscard]] bool cancelled() const { return filter != nullptr && filter->cancelled(); }
};

// Best-first on level 0 from start: afterwards scratch.best holds the ef nearest admissible nodes (and all
// within the radius), sorted. Tombstones and what the filter refuses are walked through, not counted.
void walk_admitted(const Storage& storage, const Probe& probe, Candidate start, std::size_t ef,
                   const Admission& admission, Scratch& scratch);

} // namespace embedcore::hnsw
