// Neighbour selection. Distances between candidates are the cost: at most limit for each candidate.
#include "hnsw/select.h"

#include <algorithm>

namespace embedcore::hnsw {

void select_neighbours(const Space& space, const Tree& tree, std::span<const Candidate> candidates,
                       const Selection& selection, std::vector<Candidate>& chosen) {
  // A probe from each chosen one, made once; kept between calls, so that nothing is allocated.
  static thread_local std::vector<ProbeBuffer> buffers;
  static thread_local std::vector<Probe> probes;
  static thread_local std::vector<Candidate> pruned;
  if (buffers.size() < selection.limit + 1) buffers.resize(selection.limit + 1);
  probes.clear();
  pruned.clear();
  chosen.clear();
  const auto choose = [&](const Candidate& c) {
    chosen.push_back(c);
    probes.push_back(Probe::between(space, c.slot, buffers[probes.size()]));
  };
  for (const Candidate& c : selection.kept) choose(c);
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

  for (const Candidate& c : candidates) {
    if (forced(c)) {
      --reserved;
      choose(c);
      continue;
    }
    if (chosen.size() + reserved >= selection.limit) continue;
    const bool covered = std::any_of(probes.begin(), probes.end(), [&](const Probe& other) {
      return covers(other.to(c.slot), c.distance);
    });
    if (covered) {
      pruned.push_back(c);
    } else {
      choose(c);
    }
  }
  // Half as many again: on text it makes no difference whether lists are filled up or not, on tight clusters
  // full lists leave no room for the links between clusters that come later.
  const std::size_t filled = std::min(selection.limit, chosen.size() + chosen.size() / 2);
  for (const Candidate& c : pruned) {
    if (chosen.size() >= filled) break;
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
