// Adding and replacing items. An item becomes visible in one step, after everything that leads to it:
//   1. vector, id and norm into a slot that nobody knows
//   2. its links to others, on all levels
//   3. its place in the tree, from which moment it can be reached and never be lost
//   4. links of others back to it
//   5. the id table: with it the item is found; an older version of the id becomes a tombstone
// Where memory runs out on the way the slot is free again, or, from 3 on, a tombstone.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/xxhash.h"
#include "hnsw/impl.h"
#include "hnsw/parallel.h"
#include "hnsw/select.h"
#include "hnsw/validate.h"

namespace embedcore::hnsw {

namespace {

// Below this many items a thread costs more than it saves.
constexpr std::size_t items_per_thread = 8;

} // namespace

std::uint8_t Index::Impl::level_of(std::int64_t id) const {
  const std::uint64_t salted = mix64(config.seed + 0x9E3779B97F4A7C15ull);
  const std::uint64_t hash = mix64(mix64(static_cast<std::uint64_t>(id)) ^ salted);
  const double uniform = (static_cast<double>(hash >> 11) + 1.0) * 0x1.0p-53; // in (0, 1]
  const double level = -std::log(uniform) / std::log(static_cast<double>(config.m));
  return static_cast<std::uint8_t>(std::min(level, static_cast<double>(max_level)));
}

Status Index::Impl::add(std::span<const std::int64_t> ids, const float* vectors, unsigned threads,
                        const std::function<bool(std::size_t)>& keep_going) {
  if (ids.empty()) return {};
  if (Status s = check_ids(ids); !s.ok()) return s;
  if (Status s = check_vectors(config, vectors, ids.size(), "vector"); !s.ok()) return s;
  if (Status s = check_fits(config, vectors, ids.size()); !s.ok()) return s;
  reclaim();
  if (Status s = storage.prepare(ids.size()); !s.ok()) return s;
  train_if_due({vectors, ids.size()});

  std::atomic<std::size_t> next{0};
  std::atomic<std::size_t> done{0};
  std::atomic<bool> stop{false};
  std::mutex failure_mutex;
  Status failure;
  const auto fail = [&](Status status) {
    const std::lock_guard lock(failure_mutex);
    if (failure.ok()) failure = std::move(status);
    stop.store(true, std::memory_order_relaxed);
  };
  const auto insert_some = [&](unsigned worker) {
    while (!stop.load(std::memory_order_relaxed)) {
      const std::size_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= ids.size()) return;
      if (retired.load(std::memory_order_relaxed) != 0) reclaim(); // outside of the gate: it may take a while
      {
        const std::shared_lock share(gate); // item by item, so that upkeep gets its turn
        if (Status s = insert(ids[i], vectors + i * config.dim); !s.ok()) return fail(std::move(s));
      }
      const std::size_t now = done.fetch_add(1, std::memory_order_relaxed) + 1;
      if (worker == 0 && keep_going && !keep_going(now)) {
        return fail({Code::cancelled, "add was stopped after " + std::to_string(now) + " of " +
                                          std::to_string(ids.size()) + " items; those stay"});
      }
    }
  };
  run_workers(workers_for(threads, ids.size() / items_per_thread), [&](unsigned worker) {
    try {
      insert_some(worker);
    } catch (...) { // no memory, or keep_going throws
      stop.store(true, std::memory_order_relaxed);
      throw;
    }
  });
  reclaim();
  calibrate_if_due();
  return failure;
}

Status Index::Impl::insert(std::int64_t id, const float* vector) {
  const ScratchPool::Lease lease(scratches); // first what may ask for memory, before a slot is taken
  const Pin pin(*this);
  table->make_room();
  const Slot slot = storage.allocate(level_of(id));
  if (slot == no_slot) {
    return {Code::resource_exhausted,
            "no room for id " + std::to_string(id) + ": compact the index or split it"};
  }
  Node& node = storage.node(slot);
  node.id = id;
  try {
    fill(slot, vector, *lease);
    link(slot, table->find(id), *lease);
  } catch (...) {
    if (mutant("kept_pending")) throw;
    // The root is linked without asking for memory; any other node is known once it has a parent.
    if (storage.parent(slot) == no_slot) {
      storage.free({&slot, 1});
    } else {
      abandon(slot);
    }
    throw;
  }
  publish(slot);
  note_level({slot, node.level});
  return {};
}

// Of what was added since leave_entry began to look around, the highest.
void Index::Impl::note_level(Entry added) {
  if (added.level == 0) return;
  std::uint64_t seen = highest_new.load(std::memory_order_acquire);
  while ((Entry::of(seen).empty() || Entry::of(seen).level < added.level) &&
         !highest_new.compare_exchange_weak(seen, added.packed(), std::memory_order_acq_rel)) {
  }
}

// Of a node that is linked and will not be published. No search looks for it elsewhere: it was nowhere.
void Index::Impl::abandon(Slot slot) {
  tombstones.fetch_add(1, std::memory_order_acq_rel);
  storage.set_state(slot, State::tombstone);
}

// The original, its norm, and its code, made from what was kept: so that a loaded index has the same codes.
void Index::Impl::fill(Slot slot, const float* vector, Scratch& scratch) {
  Node& node = storage.node(slot);
  node.inverse_norm = storage.store_original(slot, vector);
  const float* unit = kept_unit(slot, scratch.query);
  if (const Codec* codec = space.codec.load(std::memory_order_acquire); codec != nullptr) {
    cut.fetch_add(codec->encode(unit, storage.code(slot)), std::memory_order_relaxed);
  }
}

// What was kept of a vector, of unit length under cosine.
const float* Index::Impl::kept_unit(Slot slot, std::vector<float>& buffer) const {
  buffer.resize(config.dim);
  storage.load_original(slot, buffer.data());
  const float scale = config.metric == Metric::cosine ? storage.node(slot).inverse_norm : 1.0f;
  for (float& x : buffer) x *= scale;
  return buffer.data();
}

// Pre-condition: scratch.query holds kept_unit of slot.
void Index::Impl::link(Slot slot, Slot replaced, Scratch& scratch) {
  const std::uint32_t level = storage.node(slot).level;
  Entry from = entry();
  if (from.empty()) {
    std::uint64_t none = from.packed();
    if (entry_word.compare_exchange_strong(none, Entry{slot, level}.packed(), std::memory_order_acq_rel))
      return;
    from = Entry::of(none);
  }
  const Codec* codec = space.codec.load(std::memory_order_acquire);
  const Probe probe = Probe::walking(space, codec, scratch.query.data(), scratch.walking);
  // A node above the top becomes the new top. Of two that do not know each other one is first; the other then
  // links to it on the levels that they share, so that no level is ever split. While writers are inside, the
  // top only rises, so this ends.
  for (std::uint32_t linked = 0;;) {
    const std::uint32_t top = std::min(level, from.level);
    if (linked <= top) link_levels(slot, replaced, probe, from, {linked, top}, scratch);
    linked = top + 1;
    if (level <= from.level) return;
    std::uint64_t seen = from.packed();
    if (entry_word.compare_exchange_strong(seen, Entry{slot, level}.packed(), std::memory_order_acq_rel))
      return;
    from = Entry::of(seen);
  }
}

// Forward links on these levels, from the top down, then links back.
void Index::Impl::link_levels(Slot slot, Slot replaced, const Probe& probe, Entry from, Span levels,
                              Scratch& scratch) {
  const std::size_t breadth = std::max<std::size_t>(config.ef_construction, config.m);
  auto& starts = scratch.starts;
  starts.assign(1, approach(probe, from, levels.last, scratch));
  for (std::uint32_t l = levels.last + 1; l-- > levels.first;) {
    neighbourhood(probe, l, breadth, starts, scratch);
    choose(slot, replaced, starts, scratch);
    const Links links = storage.links(slot, l);
    for (std::size_t i = 0; i < scratch.chosen.size(); ++i) links.store(i, scratch.chosen[i].slot);
  }
  if (levels.first == 0) tree->attach(slot, from.slot);
  for (std::uint32_t l = levels.first; l <= levels.last; ++l) {
    const Links links = storage.links(slot, l);
    for (std::size_t i = 0; i < links.count; ++i) {
      if (const Slot neighbour = links.load(i); neighbour != no_slot) storage.ask_for_block(neighbour);
    }
    for (std::size_t i = 0; i < links.count; ++i) {
      if (const Slot neighbour = links.load(i); neighbour != no_slot) link_back(neighbour, slot, l);
    }
  }
}

// scratch.chosen := the neighbours of slot among what a walk met. Of what upkeep is taking away nothing is
// chosen; a node that it has moved is chosen where it lives now.
void Index::Impl::choose(Slot slot, Slot replaced, std::span<const Candidate> met, Scratch& scratch) const {
  auto& usable = scratch.usable;
  auto& others = scratch.found; // tombstones, and the version that this one replaces
  usable.clear();
  others.clear();
  bool twice = false; // one may have been met in both places
  for (Candidate c : met) {
    State state = storage.state(c.slot);
    if (state == State::moved) {
      c.slot = storage.parent(c.slot);
      state = storage.state(c.slot);
      twice = true;
    }
    if (!is_attached(state)) continue;
    (c.slot != replaced && state != State::tombstone ? usable : others).push_back(c);
  }
  // Those only where there is little else.
  if (usable.size() < config.m) usable.insert(usable.end(), others.begin(), others.end());
  // The currency of distances among stored vectors, in which the candidates are compared.
  measure_between(slot, usable, scratch);
  if (twice) {
    const auto same = [](const Candidate& a, const Candidate& b) { return a.slot == b.slot; };
    usable.erase(std::unique(usable.begin(), usable.end(), same), usable.end());
  }
  select_neighbours(space, usable, {config.m}, scratch.chosen);
}

// nodes := the nearest `breadth` that a walk on this level meets from them, sorted.
void Index::Impl::neighbourhood(const Probe& probe, std::uint32_t level, std::size_t breadth,
                                std::vector<Candidate>& nodes, Scratch& scratch) const {
  if (level == 0) {
    begin_walk(storage, probe, {breadth}, scratch);
    for (const Candidate& c : nodes) start_at(c, scratch);
    Walk* walk = &scratch.walk;
    probe.walk()(&walk, 1);
    end_walk(scratch);
    nodes.clear();
    for (std::size_t i = 0; i < walk->size; ++i) nodes.push_back({walk->distances[i], walk->slots[i]});
    return;
  }
  scratch.visited.begin(storage.end(), config.m);
  scratch.queue.reset(breadth);
  for (const Candidate& c : nodes) {
    if (scratch.visited.insert(c.slot)) scratch.queue.push(c.distance, c.slot);
  }
  walk_upper(storage, probe, level, scratch);
  scratch.visited.clear();
  nodes.clear();
  for (std::size_t i = 0; i < scratch.queue.size(); ++i) nodes.push_back(scratch.queue[i]);
}

void Index::Impl::measure_between(Slot slot, std::vector<Candidate>& candidates, Scratch& scratch) const {
  const Probe own = Probe::between(space, slot, scratch.own);
  measure_all(own, candidates, scratch);
  std::sort(candidates.begin(), candidates.end(), nearer);
}

// Distances of the candidates, several at a time.
void Index::Impl::measure_all(const Probe& probe, std::vector<Candidate>& candidates, Scratch& scratch) {
  auto& slots = scratch.batch;
  slots.clear();
  for (const Candidate& c : candidates) slots.push_back(c.slot);
  if (scratch.distances.size() < slots.size()) scratch.distances.resize(slots.size());
  probe.to(slots.data(), slots.size(), scratch.distances.data());
  for (std::size_t i = 0; i < candidates.size(); ++i) candidates[i].distance = scratch.distances[i];
}

void Index::Impl::link_back(Slot from, Slot to, std::uint32_t level) {
  constexpr int tries = 4; // of a link that may be dropped at once anyway
  const Links links = storage.links(from, level);
  for (int i = 0; i < tries && add_link(links, to) == Added::full; ++i) {
    if (prune_into(space, links, from, to, 1.0f) != Pruned::raced) return;
  }
}

// The counts move first where they may be too high for a moment, last where they may be too low: so that none
// ever wraps, and a reader that finds no tombstones has met none. Pre-condition: the caller holds a pin.
void Index::Impl::publish(Slot slot) {
  live.fetch_add(1, std::memory_order_acq_rel);
  bool switches = false;
  Slot old = no_slot;
  try {
    old = table->put(slot, [&] {
      switches = true;
      tombstones.fetch_add(1, std::memory_order_acq_rel);
      begin_switch();
    });
  } catch (...) { // so many at once that make_room did not suffice, and no memory
    live.fetch_sub(1, std::memory_order_acq_rel);
    if (switches) tombstones.fetch_sub(1, std::memory_order_acq_rel);
    abandon(slot);
    if (switches) end_switch();
    throw;
  }
  counters.added.fetch_add(1, std::memory_order_relaxed);
  storage.change_state(slot, State::pending, State::live); // unless it was replaced or removed since
  if (old != no_slot) {
    bury(old);
    live.fetch_sub(1, std::memory_order_acq_rel);
    counters.replaced.fetch_add(1, std::memory_order_relaxed);
  } else if (switches) { // somebody else removed the old one first
    tombstones.fetch_sub(1, std::memory_order_acq_rel);
  }
  if (switches) end_switch();
}

} // namespace embedcore::hnsw
