// Relocate: nodes at the tail move into free slots, and the memory of the tail goes back to the system.
// Searches and writes go on.
//
// A moved node exists twice for a while. While writers are excluded, its copy is made, the tree leads to the
// copy instead, and the id switches: from then on the copy is the node, reachable like any other. The old
// slot is `moved`: links to it are still there, walks pass through it, a search that meets it asks the id
// table where the item is now, and an insert that meets it takes the copy. One sweep turns those links into
// ones to the copies, of all nodes that moved; then the old slots wait for their last readers.
#include <algorithm>
#include <cstring>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

namespace {

constexpr int moved_at_once = 32; // nodes, in one exclusive step

} // namespace

Report Index::Impl::relocate(const Budget& budget) { return run_upkeep(Verb::relocate, budget); }

// The slot after the last one that holds a node or a tombstone.
Slot Index::Impl::last_kept() const {
  Slot last = storage.end();
  const auto kept = [this](Slot slot) {
    const State state = storage.state(slot);
    return in_graph(state) || state == State::detached || state == State::moved;
  };
  while (last > 0 && !kept(last - 1)) --last;
  return last;
}

// Whether there is a hole below a node.
bool Index::Impl::movable() const {
  Slot last = storage.end();
  while (last > 0 && !attached(last - 1)) --last;
  return last != 0 && storage.lowest_free() < last - 1;
}

// False: no hole below the next node of the tail is left, or that is a copy: slots below it that became free
// meanwhile are for the next round, so that what is moved is always one step away.
bool Index::Impl::move_some(Report& report) {
  const std::unique_lock alone(gate);
  const Pin pin(*this); // before a copy is begun: that may ask for memory
  // A snapshot leaves out links to what moves after its moment.
  if (saving.load(std::memory_order_acquire) != 0) return false;
  for (int i = 0; i < moved_at_once; ++i) {
    Slot& tail = upkeep.cursor;
    while (tail > 0 && !attached(tail - 1)) --tail;
    if (tail <= upkeep.copies_end || storage.lowest_free() >= tail - 1) return false;
    const Slot old = tail - 1;
    const Slot copy = storage.allocate(storage.node(old).level);
    if (copy == no_slot) return false;
    copy_node(old, copy);
    tree->move(old, copy);
    if (const Entry e = entry(); e.slot == old) set_entry({copy, e.level});
    switch_place(old, copy);
    upkeep.lowest_moved = tail = old;
    upkeep.copies_end = std::max(upkeep.copies_end, copy + 1);
    ++upkeep.marked;
    ++report.changed;
    counters.moved.fetch_add(1, std::memory_order_relaxed);
  }
  return true;
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

// While writers are excluded. Pre-condition: the caller holds a pin.
void Index::Impl::switch_place(Slot old, Slot copy) {
  moved.fetch_add(1, std::memory_order_acq_rel);
  storage.set_parent(old, copy);
  if (storage.state(old) == State::tombstone) {
    storage.set_state(copy, State::tombstone);
    storage.set_state(old, State::moved);
    return;
  }
  begin_switch();
  table->put(copy);
  storage.set_state(copy, State::live);
  storage.set_died(old, switch_number());
  storage.set_state(old, State::moved);
  end_switch();
}

// Links of slot to moved nodes on this level become links to where those live now. Beside other writers.
void Index::Impl::redirect(Slot slot, std::uint32_t level) {
  const Links links = storage.links(slot, level);
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = links.word(i);
    if (word == empty_word || is_protected(word) || storage.state(word) != State::moved) continue;
    if (mutant("no_redirect")) continue;
    redirect_link(links, i, word, storage.parent(word));
  }
}

// Lowers the end of the slots when those at the tail are free; returns how many that will be.
std::size_t Index::Impl::trim_tail() {
  const std::size_t freed = storage.end() - last_kept();
  // When the slots are free: two epochs after they were retired, at most (IdTable::give_up).
  epochs.retire([] {}, [this] { storage.trim(); });
  return freed;
}

} // namespace embedcore::hnsw
