// Walking the graph: greedy descent above level 0, best-first search within a level. Reads links with
// acquire loads and takes no lock; the caller holds an epoch guard.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hnsw/distance.h"
#include "hnsw/scratch.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

// From start, whose distance is given, to a node none of whose neighbours on that level is nearer.
Candidate descend(const Space& space, const Query& query, Candidate start, std::uint32_t level,
                  Scratch& scratch);

// Best-first from the candidates already in scratch.queue (and in visited): afterwards the queue holds the
// nearest nodes met, tombstones included.
void walk_all(const Space& space, const Query& query, std::uint32_t level, Scratch& scratch);

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
void walk_admitted(const Space& space, const Query& query, Candidate start, std::size_t ef,
                   const Admission& admission, Scratch& scratch);

} // namespace embedcore::hnsw
