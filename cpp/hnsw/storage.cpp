// Allocation of slots and of links above level 0.
#include "hnsw/storage.h"

#include <algorithm>
#include <string>

namespace embedcore::hnsw {

namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t released_at_once = std::size_t{4} << 20; // bytes of blocks
constexpr std::size_t fewest_slots = 1024;                     // less address space is no use
constexpr std::size_t slot_limit = (std::size_t{1} << 30) - 2; // the id table keeps two flags (id_cells.h)

constexpr std::size_t round_up(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

} // namespace

Storage::Shape Storage::shape(const Config& config) {
  const std::size_t original = Originals(config).bytes();
  const std::size_t offset = round_up(std::size_t{2} * config.m * sizeof(Slot), cache_line);
  const std::size_t row = config.codes == Codes::none ? original : Codec::bytes(config);
  return {offset, row, offset + round_up(row, cache_line), original};
}

// A free run says in its first link which one lies below it.
struct Storage::Below {
  const Storage& storage;

  [[nodiscard]] std::uint32_t load(std::uint32_t run) const {
    return std::atomic_ref<Slot>(*first_link(run)).load(std::memory_order_acquire);
  }
  void store(std::uint32_t run, std::uint32_t below) const {
    std::atomic_ref<Slot>(*first_link(run)).store(below, std::memory_order_release);
  }
  [[nodiscard]] Slot* first_link(std::uint32_t run) const {
    return storage.upper_base_ + std::size_t{run} * storage.upper_links_;
  }
};

Status Storage::create(const Config& config) {
  base_links_ = 2 * config.m;
  upper_links_ = config.m;
  kept_.emplace(config);
  const Shape shape = Storage::shape(config);
  original_bytes_ = shape.original_bytes;
  row_offset_ = shape.row_offset;
  row_bytes_ = shape.row_bytes;
  block_bytes_ = shape.block_bytes;

  // Address space costs nothing, but there is not an endless amount: four times what this machine can
  // hold, and no less than the capacity that was hinted at, as far as the system grants it.
  const std::size_t machine = std::max(4 * physical_memory(), std::size_t{1} << 30);
  const std::size_t apart = config.codes == Codes::none ? 0 : original_bytes_;
  const std::size_t per_slot = block_bytes_ + apart;
  const std::size_t wanted = std::min(std::max(machine / per_slot, config.capacity), slot_limit);
  if (Status s = blocks_.reserve(wanted * block_bytes_, fewest_slots * block_bytes_); !s.ok()) return s;
  max_slots_ = std::min(blocks_.reserved() / block_bytes_, slot_limit);
  if (config.codes == Codes::none) {
    original_base_ = blocks_.data() + row_offset_;
    original_stride_ = block_bytes_;
  } else {
    const std::size_t bytes = max_slots_ * original_bytes_;
    if (Status s = originals_.reserve(bytes, bytes); !s.ok()) return s;
    original_base_ = originals_.data();
    original_stride_ = original_bytes_;
  }
  if (Status s = nodes_.reserve(max_slots_ * sizeof(Node), max_slots_ * sizeof(Node)); !s.ok()) return s;
  // 1 / (m - 1) runs a node are expected (levels are geometric with ratio 1 / m): room for twice that.
  const std::size_t runs = 2 * max_slots_ / (config.m - 1) + 1024;
  const std::size_t run_bytes = upper_links_ * sizeof(Slot);
  if (Status s = upper_.reserve(runs * run_bytes, runs * run_bytes); !s.ok()) return s;
  max_runs_ = std::min<std::size_t>(upper_.reserved() / run_bytes, no_slot);
  const std::size_t bit_bytes = max_slots_ / 8 + sizeof(std::uint64_t);
  if (Status s = free_bits_.reserve(bit_bytes, bit_bytes); !s.ok()) return s;
  free_.use(reinterpret_cast<BasicFreeSlots<ThreadAtomics>::Word*>(free_bits_.data()));
  block_base_ = blocks_.data();
  node_base_ = reinterpret_cast<Node*>(nodes_.data());
  upper_base_ = reinterpret_cast<Slot*>(upper_.data());
  return {};
}

Status Storage::prepare(std::size_t n) {
  if (!make_ready(end() + (n - std::min(n, free_.count())))) {
    return {Code::resource_exhausted, "no room for " + std::to_string(n) + " more items; at most " +
                                          std::to_string(max_slots_) +
                                          " fit here: compact the index, add fewer or split it"};
  }
  return {};
}

bool Storage::commit(std::size_t slots) {
  return slots <= max_slots_ && blocks_.commit(slots * block_bytes_) && nodes_.commit(slots * sizeof(Node)) &&
         free_bits_.commit(slots / 8 + sizeof(std::uint64_t)) &&
         (originals_.data() == nullptr || originals_.commit(slots * original_stride_));
}

// Memory for these slots and, where they come one by one, for a few more, so that this is seldom called.
bool Storage::make_ready(std::size_t slots) {
  if (slots <= slots_.ready()) return true;
  const std::lock_guard lock(mutex_);
  if (slots <= slots_.ready()) return true;
  const std::size_t ready = slots_.ready();
  std::size_t target = std::max(slots, std::min(ready + ready / 32, max_slots_));
  if (!commit(target) && !commit(target = slots)) return false;
  slots_.raise(static_cast<Slot>(target));
  used_end_ = std::max(used_end_, static_cast<Slot>(target));
  return true;
}

bool Storage::make_upper_ready(std::size_t runs) {
  const std::lock_guard lock(mutex_);
  if (runs <= runs_.ready()) return true;
  const std::size_t target = std::max(runs, std::min(runs + runs / 32, max_runs_));
  if (target > max_runs_ || !upper_.commit(target * upper_links_ * sizeof(Slot))) return false;
  runs_.raise(static_cast<std::uint32_t>(target));
  return true;
}

Slot Storage::allocate(std::uint8_t level) {
  std::uint32_t upper = 0;
  if (level != 0) {
    const auto runs = take_upper(level);
    if (!runs) return no_slot;
    upper = *runs;
  }
  const Slot slot = take_slot();
  if (slot == no_slot) {
    if (level != 0) free_upper_[level].push(upper, Below{*this});
    return no_slot;
  }
  Node& n = node(slot);
  n.level = level;
  n.upper = upper;
  n.died = 0;
  set_parent(slot, no_slot);
  set_state(slot, State::pending);
  clear_links(slot); // nobody looks at those of a pending node to which none leads
  return slot;
}

Slot Storage::take_slot() {
  if (const Slot slot = free_.take(); slot != no_slot) return slot;
  for (;;) {
    if (const auto slot = slots_.take(1)) return *slot;
    if (!make_ready(std::size_t{end()} + 1)) return no_slot;
  }
}

std::optional<std::uint32_t> Storage::take_upper(std::uint8_t level) {
  if (const auto reused = free_upper_[level].pop(Below{*this})) return reused;
  for (;;) {
    if (const auto runs = runs_.take(level)) return runs;
    if (!make_upper_ready(std::size_t{runs_.end()} + level)) return std::nullopt;
  }
}

void Storage::clear_links(Slot slot) {
  const Links places{links(slot, 0).at, static_cast<std::uint32_t>(link_places())};
  for (std::size_t i = 0; i < places.count; ++i) places.store(i, no_slot);
  for (std::uint32_t l = 1; l <= node(slot).level; ++l) {
    const Links upper = links(slot, l);
    for (std::size_t i = 0; i < upper.count; ++i) upper.store(i, no_slot);
  }
}

void Storage::free(std::span<const Slot> slots) {
  for (const Slot slot : slots) {
    if (const Node& n = node(slot); n.level != 0) free_upper_[n.level].push(n.upper, Below{*this});
    set_state(slot, State::free);
    free_.give(slot);
  }
}

void Storage::trim() {
  const Slot end = this->end();
  const Slot kept = free_.take_tail(end);
  if (kept == end) return;
  if (!slots_.cut(end, kept)) { // somebody has just taken a slot behind them
    for (Slot slot = kept; slot < end; ++slot) free_.give(slot);
    return;
  }
  while (release_some()) {
  }
}

// Of what is not ready to be handed out, from the top, a few megabytes at a time, so that nobody who needs
// more slots waits long.
bool Storage::release_some() {
  const std::lock_guard lock(mutex_);
  const Slot step = static_cast<Slot>(released_at_once / block_bytes_ + 1);
  const Slot from = std::max(slots_.ready(), used_end_ - std::min(used_end_, step));
  if (from >= used_end_) return false;
  blocks_.release(from * block_bytes_);
  if (originals_.data() != nullptr) originals_.release(from * original_stride_);
  nodes_.release(from * sizeof(Node));
  used_end_ = from;
  return true;
}

Status Storage::restore(Slot end, std::uint32_t runs) {
  const std::lock_guard lock(mutex_);
  if (runs > max_runs_ || !commit(end) || !upper_.commit(std::size_t{runs} * upper_links_ * sizeof(Slot))) {
    return {Code::resource_exhausted, "no memory for the " + std::to_string(end) + " items of this file"};
  }
  used_end_ = end;
  runs_.restore(runs);
  slots_.restore(end);
  return {};
}

Status Storage::restore(Slot end, std::uint32_t runs, const Mapped& mapped) {
  {
    const std::lock_guard lock(mutex_);
    const auto map = [&mapped](Arena& arena, const Mapped::Range& range) {
      return range.bytes == 0 || arena.map(mapped.file, range.at, range.bytes);
    };
    if (end > max_slots_ || runs > max_runs_ || !map(nodes_, mapped.nodes) || !map(upper_, mapped.upper) ||
        !map(blocks_, mapped.blocks) || !map(originals_, mapped.originals)) {
      return {Code::resource_exhausted,
              "the system maps no file of " + std::to_string(end) + " items: load it without mmap"};
    }
  }
  return restore(end, runs); // whose commits are within what is mapped
}

void Storage::restore_free(std::span<const Slot> slots) {
  for (const Slot slot : slots) free_.give(slot);
}

Storage::Resident Storage::resident() const {
  const std::lock_guard lock(mutex_);
  return {blocks_.resident(), originals_.resident(), nodes_.resident(), upper_.resident(),
          free_bits_.resident()};
}

} // namespace embedcore::hnsw
