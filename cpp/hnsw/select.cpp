// Neighbour selection. Distances between candidates are the cost: at most limit for each candidate.
#include "hnsw/select.h"

#include <algorithm>

namespace embedcore::hnsw {

void select_neighbours(const Space& space, const Tree& tree, std::span<const Candidate> candidates,
                       const Selection& selection, std::vector<float>& buffer,
                       std::vector<Candidate>& chosen) {
  chosen.assign(selection.kept.begin(), selection.kept.end());
  const Storage& storage = *space.storage;
  const auto forced = [&](const Candidate& c) {
    return selection.protector != no_slot && tree.is_protected(selection.protector, c.slot);
  };
  std::size_t reserved = 0; // places for protected candidates not yet met
  if (selection.protector != no_slot) {
    for (const Candidate& c : candidates) reserved += forced(c) ? 1u : 0u;
  }
  // A negative distance (inner product) times alpha would prune more, not less.
  const auto covers = [&](float between, float distance) {
    return (between > 0 ? selection.alpha * between : between) < distance;
  };

  std::vector<Candidate> pruned;
  for (const Candidate& c : candidates) {
    if (forced(c)) {
      --reserved;
      chosen.push_back(c);
      continue;
    }
    if (chosen.size() + reserved >= selection.limit) continue;
    const Query from_c(space, storage.vector(c.slot), storage.node(c.slot).inverse_norm, buffer);
    const bool covered = std::any_of(chosen.begin(), chosen.end(), [&](const Candidate& other) {
      return covers(from_c.to(other.slot), c.distance);
    });
    (covered ? pruned : chosen).push_back(c);
  }
  for (const Candidate& c : pruned) {
    if (chosen.size() >= selection.limit) break;
    chosen.push_back(c);
  }
}

void rewrite(Links links, std::span<const Candidate> chosen) {
  const auto wanted = [&](Slot slot) {
    return std::any_of(chosen.begin(), chosen.end(), [slot](const Candidate& c) { return c.slot == slot; });
  };
  std::size_t place = 0;
  for (const Candidate& c : chosen) {
    if (links.find(c.slot) != links.count) continue;
    while (links.load(place) != no_slot && wanted(links.load(place))) ++place;
    links.store(place, c.slot);
  }
  for (std::size_t i = 0; i < links.count; ++i) {
    if (const Slot slot = links.load(i); slot != no_slot && !wanted(slot)) links.store(i, no_slot);
  }
}

} // namespace embedcore::hnsw
