// Walks that the kernels do not do by themselves, and the preparation of those that they do.
#include "hnsw/walk.h"

#include <algorithm>
#include <limits>

namespace embedcore::hnsw {

namespace {

// Distances of scratch.fresh into scratch.distances.
inline void measure_fresh(const Probe& probe, Scratch& scratch) {
  const std::size_t n = scratch.fresh.size();
  if (scratch.distances.size() < n) scratch.distances.resize(n);
  probe.to(scratch.fresh.data(), n, scratch.distances.data());
  ++scratch.hops;
  scratch.computed += n;
}

// scratch.fresh := what links lead to and accept() takes; their rows are asked for.
template <class Accept>
inline void gather(const Probe& probe, Links links, Scratch& scratch, Accept accept) {
  scratch.fresh.clear();
  for (std::size_t i = 0; i < links.count; ++i) {
    const Slot slot = links.load(i);
    if (slot == no_slot || !accept(slot)) continue;
    scratch.fresh.push_back(slot);
    probe.prefetch(slot);
  }
}

constexpr std::size_t line = 64;

template <class T>
T* aligned(T* at) {
  return reinterpret_cast<T*>((reinterpret_cast<std::uintptr_t>(at) + line - 1) & ~std::uintptr_t{line - 1});
}

struct Farther { // makes std heaps yield the nearest first
  bool operator()(const Candidate& a, const Candidate& b) const { return nearer(b, a); }
};

} // namespace

Candidate descend(const Storage& storage, const Probe& probe, Candidate start, std::uint32_t level,
                  std::uint32_t last, Scratch& scratch) {
  if (level <= last) return start;
  const Links upper = storage.first_upper_links();
  Descent d{};
  d.measure = probe.measure();
  d.lines = probe.part_lines();
  d.links = upper.at;
  d.count = upper.count;
  d.first_runs = reinterpret_cast<const std::byte*>(&storage.node(0).upper);
  d.run_stride = sizeof(Node);
  d.blocks = storage.blocks();
  d.block_bytes = storage.block_bytes();
  d.block_lines = storage.link_places() * sizeof(Slot) / line;
  d.level = level;
  d.last = last;
  d.slot = start.slot;
  d.distance = start.distance;
  probe.descend()(d);
  scratch.hops += d.hops;
  scratch.computed += d.computed;
  return {d.distance, d.slot};
}

void walk_upper(const Storage& storage, const Probe& probe, std::uint32_t level, Scratch& scratch) {
  SortedQueue& queue = scratch.queue;
  for (Slot slot = queue.expand(); slot != no_slot; slot = queue.expand()) {
    gather(probe, storage.links(slot, level), scratch,
           [&](Slot next) { return scratch.visited.insert(next); });
    measure_fresh(probe, scratch);
    for (std::size_t i = 0; i < scratch.fresh.size(); ++i) queue.push(scratch.distances[i], scratch.fresh[i]);
  }
}

void begin_walk(const Storage& storage, const Probe& probe, const Breadth& breadth, Scratch& scratch) {
  Walk& walk = scratch.walk;
  walk = Walk{};
  walk.measure = probe.measure();
  walk.row_lines = probe.row_lines();
  walk.part_lines = probe.part_lines();
  walk.later_lines = probe.later_lines();
  walk.ahead = probe.ahead();
  walk.blocks = storage.blocks();
  walk.block_bytes = storage.block_bytes();
  walk.links = storage.link_places();
  walk.beam = breadth.beam;
  walk.rank = breadth.rank;
  walk.floor = breadth.floor;
  walk.stretch = breadth.stretch;
  walk.slack = breadth.slack;
  const std::size_t room = walk.beam * walk.links;
  scratch.visited.begin(storage.end(), room);
  scratch.visited.lend(walk);
  if (scratch.distances.size() < room) scratch.distances.resize(room);
  walk.buffer = scratch.distances.data();
  if (scratch.fresh.size() < room) scratch.fresh.resize(room);
  if (scratch.parts.size() < room) scratch.parts.resize(room);
  walk.kept = scratch.fresh.data();
  walk.parts = scratch.parts.data();
  walk.capacity = breadth.capacity;
  const std::size_t places = walk.capacity + walk_margin + line / sizeof(float);
  if (scratch.nearest.size() < places) {
    scratch.nearest_slots.resize(places);
    scratch.nearest.resize(places);
  }
  std::fill_n(scratch.nearest.begin(), places, std::numeric_limits<float>::infinity());
  walk.distances = aligned(scratch.nearest.data());
  walk.slots = aligned(scratch.nearest_slots.data());
}

void start_at(Candidate start, Scratch& scratch) {
  Walk& walk = scratch.walk;
  scratch.visited.take_back(walk);
  const bool fresh = scratch.visited.insert(start.slot);
  scratch.visited.lend(walk);
  if (!fresh || walk.size == walk.capacity) return;
  std::size_t at = walk.size++;
  for (; at > 0 && walk.distances[at - 1] > start.distance; --at) {
    walk.distances[at] = walk.distances[at - 1];
    walk.slots[at] = walk.slots[at - 1];
  }
  walk.distances[at] = start.distance;
  walk.slots[at] = start.slot;
}

void end_walk(Scratch& scratch) {
  Walk& walk = scratch.walk;
  for (std::size_t i = 0; i < walk.size; ++i) walk.slots[i] &= ~(Slot{1} << 31); // expanded
  scratch.visited.take_back(walk);
  scratch.visited.clear();
  scratch.hops += walk.hops;
  scratch.computed += walk.computed;
}

void walk_admitted(const Storage& storage, const Probe& probe, Candidate start, std::size_t ef,
                   const Admission& admission, Scratch& scratch) {
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
      if (mutant("skipped_version_check")) return;
      const bool elsewhere =
          state == State::moved || state == State::retired || storage.died(slot) > admission.since;
      if (elsewhere) scratch.died.push_back(slot);
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

  scratch.visited.begin(storage.end(), storage.link_places());
  scratch.visited.insert(start.slot);
  meet(start.slot, start.distance);
  while (!frontier.empty() && worthwhile(frontier.front().distance) && !admission.cancelled()) {
    std::pop_heap(frontier.begin(), frontier.end(), Farther{});
    const Slot slot = frontier.back().slot;
    frontier.pop_back();
    gather(probe, storage.links(slot, 0), scratch, [&](Slot next) {
      if (!scratch.visited.insert(next)) return false;
      __builtin_prefetch(&storage.node(next), 0, 3);
      return true;
    });
    measure_fresh(probe, scratch);
    for (std::size_t i = 0; i < scratch.fresh.size(); ++i) meet(scratch.fresh[i], scratch.distances[i]);
  }
  scratch.visited.clear();
  std::sort_heap(best.begin(), best.end(), nearer);
}

} // namespace embedcore::hnsw
