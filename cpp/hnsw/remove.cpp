// Removing items: a tombstone is never returned and still walked through, until compact frees its slot.
#include "hnsw/impl.h"

namespace embedcore::hnsw {

bool Index::Impl::remove(std::int64_t id) {
  const std::shared_lock share(gate);
  const Pin pin(*this);
  bool switches = false;
  const Slot slot = table->erase(id, [&] {
    switches = true;
    tombstones.fetch_add(1, std::memory_order_acq_rel);
    begin_switch();
  });
  if (slot != no_slot) {
    bury(slot);
    live.fetch_sub(1, std::memory_order_acq_rel);
    counters.removed.fetch_add(1, std::memory_order_relaxed);
  } else if (switches) { // somebody else removed it first
    tombstones.fetch_sub(1, std::memory_order_acq_rel);
  }
  if (switches) end_switch();
  return slot != no_slot;
}

// The number before the state: a reader that sees the tombstone knows when it was made. The one who took the
// slot out of the id table does this, whatever its state: it may not have been made live yet.
void Index::Impl::bury(Slot slot) {
  storage.set_died(slot, switch_number());
  storage.set_state(slot, State::tombstone);
}

} // namespace embedcore::hnsw
