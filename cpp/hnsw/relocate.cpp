// Relocate: nodes at the tail move into free slots, and the memory of the tail goes back to the system.
// Searches go on; writers wait.
//
// A moved node exists twice for a while. Its copy is complete before the first link to it is stored; each
// link to the old place becomes one to the new place in one store; then the id switches; the old place is
// freed once its last readers have left.
#include <cstring>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

Report Index::Impl::relocate() {
  epochs.try_reclaim(); // what compact retired may be free by now
  Report report;
  {
    const std::unique_lock alone(gate);
    const Slot end = storage.end();
    std::vector<Slot> to(end, no_slot); // old slot -> new slot
    std::vector<Slot> from;
    Slot tail = end;
    while (tail > 0) {
      if (!attached(tail - 1)) {
        --tail;
        continue;
      }
      const Slot hole = storage.lowest_free();
      if (hole >= tail) break;
      const Slot copy = storage.allocate(storage.node(tail - 1).level);
      if (copy == no_slot) break;
      --tail;
      copy_node(tail, copy);
      to[tail] = copy;
      from.push_back(tail);
    }
    const auto now_at = [&](Slot slot) { return slot < end && to[slot] != no_slot ? to[slot] : slot; };
    for (Slot slot = 0; slot < end; ++slot) {
      if (!attached(slot) || to[slot] != no_slot) continue;
      ++report.examined;
      if (const Slot parent = storage.parent(slot); parent != no_slot)
        storage.set_parent(slot, now_at(parent));
      for (std::uint32_t level = 0; level <= storage.node(slot).level; ++level) {
        const Links links = storage.links(slot, level);
        for (std::size_t i = 0; i < links.count; ++i) {
          const Slot target = links.load(i);
          if (target != no_slot && now_at(target) != target)
            links.store(i, now_at(target) | (links.word(i) & protected_bit));
        }
      }
    }
    if (const Entry e = entry(); !e.empty()) set_entry({now_at(e.slot), e.level});
    {
      const std::lock_guard lock(table_mutex);
      for (const Slot old : from) switch_place(old, to[old]);
    }
    report.changed = from.size();
    counters.moved.fetch_add(from.size(), std::memory_order_relaxed);
    Slot keep = end;
    while (keep > 0 && !attached(keep - 1) && storage.state(keep - 1) != State::detached) --keep;
    report.freed = end - keep;
    retire(std::move(from), true);
  }
  epochs.try_reclaim();
  return report;
}

// Everything but the state, which switch_place sets.
void Index::Impl::copy_node(Slot old, Slot copy) {
  const Node& source = storage.node(old);
  Node& target = storage.node(copy);
  target.id = source.id;
  target.inverse_norm = source.inverse_norm;
  std::memcpy(storage.row(copy), storage.row(old), storage.rows().bytes);
  std::memcpy(storage.original(copy), storage.original(old), storage.originals().bytes);
  storage.set_died(copy, storage.died(old));
  storage.set_parent(copy, storage.parent(old));
  for (std::uint32_t level = 0; level <= source.level; ++level) {
    const Links have = storage.links(old, level);
    const Links get = storage.links(copy, level);
    for (std::size_t i = 0; i < have.count; ++i) get.store(i, have.word(i));
  }
}

// Pre-condition: table_mutex held.
void Index::Impl::switch_place(Slot old, Slot copy) {
  if (storage.state(old) == State::tombstone) {
    storage.set_state(copy, State::tombstone);
    storage.set_state(old, State::retired);
    return;
  }
  switch_over([&](std::uint64_t number) {
    table->put(copy);
    storage.set_state(copy, State::live);
    storage.set_died(old, number);
    storage.set_state(old, State::retired);
  });
}

} // namespace embedcore::hnsw
