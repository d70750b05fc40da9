// Neighbour selection. Distances between candidates are the cost: at most limit for each candidate.
#include "hnsw/select.h"

#include <algorithm>
#include <array>

namespace embedcore::hnsw {

void select_neighbours(const Space& space, const Tree& tree, std::span<const Candidate> candidates,
                       const Selection& selection, std::vector<Candidate>& chosen) {
  static thread_local ProbeBuffer buffer;
  static thread_local std::vector<Slot> slots; // of the chosen
  static thread_local std::vector<Candidate> pruned;
  slots.clear();
  pruned.clear();
  chosen.clear();
  const auto choose = [&](const Candidate& c) {
    chosen.push_back(c);
    slots.push_back(c.slot);
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

  // Four at a time where kernels take four codes at once; of originals each costs its own cache lines.
  const std::size_t step = space.codec.load(std::memory_order_acquire) != nullptr || space.lean ? 4 : 1;
  const auto is_covered = [&](const Candidate& c) {
    if (slots.empty()) return false;
    const Probe own = Probe::between(space, c.slot, buffer);
    std::array<float, 4> between{};
    for (std::size_t i = 0; i < slots.size(); i += step) {
      const std::size_t n = std::min(step, slots.size() - i);
      own.to(slots.data() + i, n, between.data());
      for (std::size_t j = 0; j < n; ++j) {
        if (covers(between[j], c.distance)) return true;
      }
    }
    return false;
  };

  for (const Candidate& c : candidates) {
    if (forced(c)) {
      --reserved;
      choose(c);
      continue;
    }
    if (chosen.size() + reserved >= selection.limit) continue;
    const bool covered = is_covered(c);
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
