// Compact: repair, then the slots of the tombstones are freed for reuse, as soon as no reader that could
// still stand on one is left. The steps of its last phase, which relocate shares.
#include "hnsw/impl.h"

namespace embedcore::hnsw {

Report Index::Impl::compact(const Budget& budget) { return run_upkeep(Verb::compact, budget); }

// Slots of this state, which nothing of the graph leads to any more, wait for their epoch; returns how many.
// All of a round are cut off before the first of them is retired: they still link to one another, and a
// reader that can reach one must not find another reused. std::bad_alloc: nothing has changed.
std::size_t Index::Impl::retire_some(Slot from, Slot to, State state) {
  const std::shared_lock share(gate); // so that check and save see no count half changed
  std::vector<Slot> gone;
  for (Slot slot = from; slot < to; ++slot) {
    if (storage.state(slot) == state) gone.push_back(slot);
  }
  const std::size_t count = gone.size();
  if (count == 0) return 0;
  const Pin pin(*this); // until it goes nothing that is given up here is freed
  const auto free = [this, gone] {
    hold.free(gone);
    retired.fetch_sub(gone.size(), std::memory_order_acq_rel);
  };
  if (!mutant("early_reuse")) table->give_up(gone, free);
  for (const Slot slot : gone) storage.set_state(slot, State::retired);
  retired.fetch_add(count, std::memory_order_acq_rel);
  if (state == State::moved) {
    moved.fetch_sub(count, std::memory_order_acq_rel);
  } else {
    detached.fetch_sub(count, std::memory_order_acq_rel);
    tombstones.fetch_sub(count, std::memory_order_acq_rel);
    counters.freed.fetch_add(count, std::memory_order_relaxed);
  }
  if (mutant("early_reuse")) free();
  return state == State::moved ? 0 : count; // what moved is not freed: the tail is
}

} // namespace embedcore::hnsw
