// Removing items: a tombstone is never returned and still walked through, until compact frees its slot.
#include "hnsw/impl.h"

namespace embedcore::hnsw {

bool Index::Impl::remove(std::int64_t id) {
  const std::shared_lock share(gate);
  const std::lock_guard lock(table_mutex);
  if (table->find(id) == no_slot) return false;
  tombstones.fetch_add(1, std::memory_order_acq_rel);
  switch_over([&](std::uint64_t number) { bury(table->erase(id), number); });
  live.fetch_sub(1, std::memory_order_acq_rel);
  counters.removed.fetch_add(1, std::memory_order_relaxed);
  return true;
}

// The number before the state: a reader that sees the tombstone knows when it was made.
void Index::Impl::bury(Slot slot, std::uint64_t number) {
  storage.set_died(slot, number);
  storage.set_state(slot, State::tombstone);
}

} // namespace embedcore::hnsw
