// Choosing the neighbours of a node: the heuristic of Malkov & Yashunin 2018, algorithm 4, with some pruned
// candidates kept, and rewriting a list of links in place.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hnsw/probe.h"
#include "hnsw/queue.h"
#include "hnsw/scratch.h"
#include "hnsw/tree.h"

namespace embedcore::hnsw {

struct Selection {
  std::size_t limit;
  // A candidate is pruned when alpha times its distance to a chosen one is below its distance to the
  // node. 1 while building; 1.2 in repair, where 1 prunes too much (Subramanya et al., DiskANN, 2019).
  float alpha = 1.0f;
  // Links between this node and its parent or children in the tree are always chosen; no_slot: none are.
  Slot protector = no_slot;
  // Chosen before all others and whatever they are; not among the candidates.
  std::span<const Candidate> kept = {};
};

// Chooses up to selection.limit of the candidates, which are sorted and without duplicates, into chosen.
// Pre-condition: no more than limit of them are protected.
void select_neighbours(const Space& space, const Tree& tree, std::span<const Candidate> candidates,
                       const Selection& selection, std::vector<Candidate>& chosen);

// Makes links hold exactly the chosen ones. A link that stays is never moved, so a reader that scans the
// list meanwhile misses none of those; each change is one atomic store. The caller is the list's only writer.
void rewrite(Links links, std::span<const Candidate> chosen);

} // namespace embedcore::hnsw
