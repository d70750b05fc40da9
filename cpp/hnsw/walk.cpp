// The loops that every search and insert spends its time in.
#include "hnsw/walk.h"

#include <algorithm>

namespace embedcore::hnsw {

namespace {

inline void prefetch(const void* at) { __builtin_prefetch(at, 0, 3); }

// Collects the unvisited neighbours of slot and asks for their first lines: the processor's own
// prefetcher follows a float vector once it has seen two lines of it.
inline void gather(const Storage& storage, Links links, Scratch& scratch) {
  scratch.fresh.clear();
  for (std::size_t i = 0; i < links.count; ++i) {
    const Slot slot = links.load(i);
    if (slot == no_slot || !scratch.visited.insert(slot)) continue;
    scratch.fresh.push_back(slot);
    const float* vector = storage.vector(slot);
    prefetch(vector);
    prefetch(vector + 16);
    prefetch(&storage.node(slot));
  }
  ++scratch.hops;
  scratch.distances += scratch.fresh.size();
}

struct Farther { // makes std heaps yield the nearest first
  bool operator()(const Candidate& a, const Candidate& b) const { return nearer(b, a); }
};

} // namespace

Candidate descend(const Space& space, const Query& query, Candidate start, std::uint32_t level,
                  Scratch& scratch) {
  const Storage& storage = *space.storage;
  for (bool moved = true; moved;) {
    moved = false;
    const Links links = storage.links(start.slot, level);
    ++scratch.hops;
    for (std::size_t i = 0; i < links.count; ++i) {
      if (const Slot slot = links.load(i); slot != no_slot) prefetch(storage.vector(slot));
    }
    for (std::size_t i = 0; i < links.count; ++i) {
      const Slot slot = links.load(i);
      if (slot == no_slot) continue;
      ++scratch.distances;
      if (const float distance = query.to(slot); distance < start.distance) {
        start = {distance, slot};
        moved = true;
      }
    }
  }
  return start;
}

void walk_all(const Space& space, const Query& query, std::uint32_t level, Scratch& scratch) {
  const Storage& storage = *space.storage;
  SortedQueue& queue = scratch.queue;
  for (Slot slot = queue.expand(); slot != no_slot; slot = queue.expand()) {
    gather(storage, storage.links(slot, level), scratch);
    for (const Slot next : scratch.fresh) queue.push(query.to(next), next);
  }
}

void walk_admitted(const Space& space, const Query& query, Candidate start, std::size_t ef,
                   const Admission& admission, Scratch& scratch) {
  const Storage& storage = *space.storage;
  auto& frontier = scratch.frontier;
  auto& best = scratch.best;
  frontier.clear();
  best.clear();

  // Strictly nearer than the ef-th best, so that a crowd of equal vectors does not keep the walk going.
  const auto worthwhile = [&](float distance) {
    return best.size() < ef || distance < best.front().distance || distance <= admission.radius;
  };
  const auto meet = [&](Slot slot, float distance) {
    if (!worthwhile(distance)) return;
    frontier.push_back({distance, slot});
    std::push_heap(frontier.begin(), frontier.end(), Farther{});
    const State state = storage.state(slot);
    if (state != State::live && state != State::pending) {
      if (storage.died(slot) > admission.since) scratch.died.push_back(slot);
      return;
    }
    if (admission.filter != nullptr && !admission.filter->allows(storage.node(slot).id)) return;
    best.push_back({distance, slot});
    std::push_heap(best.begin(), best.end(), nearer);
    if (best.size() > ef && best.front().distance > admission.radius) {
      std::pop_heap(best.begin(), best.end(), nearer);
      best.pop_back();
    }
  };

  scratch.visited.insert(start.slot);
  meet(start.slot, start.distance);
  while (!frontier.empty() && worthwhile(frontier.front().distance) && !admission.cancelled()) {
    std::pop_heap(frontier.begin(), frontier.end(), Farther{});
    const Slot slot = frontier.back().slot;
    frontier.pop_back();
    gather(storage, storage.links(slot, 0), scratch);
    for (const Slot next : scratch.fresh) meet(next, query.to(next));
  }
  std::sort_heap(best.begin(), best.end(), nearer);
}

} // namespace embedcore::hnsw
