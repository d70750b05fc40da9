// Choosing the neighbours of a node: the heuristic of Malkov & Yashunin 2018, algorithm 4, with some pruned
// candidates kept, and pruning a full list of links with it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hnsw/probe.h"
#include "hnsw/queue.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

struct Selection {
  std::size_t limit;
  // A candidate is pruned when alpha times its distance to a chosen one is below its distance to the
  // node. 1 while building; 1.2 in repair, where 1 prunes too much (Subramanya et al., DiskANN, 2019).
  float alpha = 1.0f;
  // Candidates that are always chosen.
  std::span<const Slot> forced = {};
  // Chosen before all others and whatever they are; not among the candidates.
  std::span<const Candidate> kept = {};
};

// Chooses up to selection.limit of the candidates, which are sorted and without duplicates, into chosen.
// Pre-condition: no more than limit of them are forced.
void select_neighbours(const Space& space, std::span<const Candidate> candidates, const Selection& selection,
                       std::vector<Candidate>& chosen);

enum class Pruned { placed, refused, raced };

// Prunes from's list, which is full, with the link `desired` among its candidates: those that are not chosen
// are dropped, each by one exchange; a link that stays is never moved, so that a reader which scans the list
// meanwhile misses none of those. Protected links, and desired if it is one, are always chosen.
// refused: desired was not chosen, or all links are protected. raced: its place was taken; look again.
Pruned prune_into(const Space& space, Links links, Slot from, Word desired, float alpha);

} // namespace embedcore::hnsw
