// What the index holds and what it costs.
#include <algorithm>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

std::size_t Index::Impl::memory_bytes() const {
  const Storage::Resident resident = storage.resident();
  const Pin pin(*this);
  return resident.blocks + resident.originals + resident.nodes + resident.upper + resident.lists +
         table->bytes() + scratches.bytes() + sizeof(Impl);
}

Stats Index::Impl::stats() const {
  const std::unique_lock alone(gate);
  Stats s{};
  const Storage::Resident resident = storage.resident();
  s.block_bytes = resident.blocks;
  s.original_bytes = resident.originals;
  if (const Codec* current = space.codec.load(std::memory_order_acquire); current != nullptr) {
    s.codes_trained_on = current->values().trained_on;
    s.codes_step = current->values().step;
    s.codes_error = current->values().error;
  }
  s.node_bytes = resident.nodes;
  s.upper_bytes = resident.upper;
  {
    const Pin pin(*this);
    s.table_bytes = table->bytes();
  }
  s.scratch_bytes = scratches.bytes();
  s.other_bytes = resident.lists + sizeof(Impl);
  s.stop_exponent = stop_exponent.load();
  s.tombstones = tombstones.load();
  s.free = storage.free_count();
  s.retired = retired.load() + hold.kept();
  s.slots = storage.end();
  std::size_t links_in_all = 0;
  for (Slot slot = 0; slot < s.slots; ++slot) {
    if (storage.state(slot) != State::live) continue;
    const std::size_t level = storage.node(slot).level;
    if (s.levels.size() <= level) s.levels.resize(level + 1);
    ++s.levels[level];
    const Links links = storage.links(slot, 0);
    std::size_t degree = 0;
    for (std::size_t i = 0; i < links.count; ++i) degree += links.load(i) != no_slot ? 1u : 0u;
    s.degree_min = s.live == 0 ? degree : std::min(s.degree_min, degree);
    s.degree_max = std::max(s.degree_max, degree);
    links_in_all += degree;
    ++s.live;
  }
  s.degree_mean = s.live == 0 ? 0.0 : static_cast<double>(links_in_all) / static_cast<double>(s.live);
  s.added = counters.added.load();
  s.replaced = counters.replaced.load();
  s.removed = counters.removed.load();
  s.reconnected = counters.reconnected.load();
  s.freed = counters.freed.load();
  s.moved = counters.moved.load();
  return s;
}

} // namespace embedcore::hnsw
