// Compact: repair, then the slots of the tombstones are freed for reuse, as soon as no reader that could
// still stand on one is left.
#include "hnsw/impl.h"

namespace embedcore::hnsw {

Report Index::Impl::compact() {
  const std::uint64_t until = horizon();
  Report report;
  {
    const std::unique_lock alone(gate);
    report = repair_up_to(until);
    std::vector<Slot> gone;
    const Slot end = storage.end();
    for (Slot slot = 0; slot < end; ++slot) {
      if (storage.state(slot) != State::detached) continue;
      storage.set_state(slot, State::retired);
      gone.push_back(slot);
    }
    report.freed = gone.size();
    tombstones.fetch_sub(gone.size(), std::memory_order_acq_rel);
    retire(std::move(gone), false);
    counters.freed.fetch_add(report.freed, std::memory_order_relaxed);
  }
  epochs.try_reclaim();
  return report;
}

// Pre-condition: no link, no id and not the entry leads to the slots any more.
void Index::Impl::retire(std::vector<Slot> slots, bool trim) {
  const std::size_t count = slots.size();
  if (count == 0 && !trim) return;
  retired.fetch_add(count, std::memory_order_acq_rel);
  epochs.retire([this, trim, gone = std::move(slots)] {
    storage.free(gone);
    if (trim) storage.trim();
    retired.fetch_sub(gone.size(), std::memory_order_acq_rel);
  });
}

} // namespace embedcore::hnsw
