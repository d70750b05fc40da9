// Allocation of slots and of links above level 0.
#include "hnsw/storage.h"

#include <algorithm>
#include <functional>
#include <string>

namespace embedcore::hnsw {

namespace {

constexpr std::size_t cache_line = 64;
constexpr std::size_t released_at_once = std::size_t{4} << 20; // bytes of blocks
constexpr std::size_t fewest_slots = 1024;                     // less address space is no use
constexpr std::size_t slot_limit = (std::size_t{1} << 31) - 1; // the queue keeps a flag in the top bit

constexpr std::size_t round_up(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

} // namespace

Storage::Shape Storage::shape(const Config& config) {
  const std::size_t original = Originals(config).bytes();
  const std::size_t offset = round_up(std::size_t{2} * config.m * sizeof(Slot), cache_line);
  const std::size_t row = config.codes == Codes::none ? original : Codec::bytes(config);
  return {offset, row, offset + round_up(row, cache_line), original};
}

Status Storage::create(const Config& config) {
  base_links_ = 2 * config.m;
  upper_links_ = config.m;
  kept_.emplace(config);
  const Shape shape = Storage::shape(config);
  original_bytes_ = shape.original_bytes;
  row_offset_ = shape.row_offset;
  row_bytes_ = shape.row_bytes;
  block_bytes_ = shape.block_bytes;
  free_upper_.resize(max_level + 1);

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
  block_base_ = blocks_.data();
  node_base_ = reinterpret_cast<Node*>(nodes_.data());
  upper_base_ = reinterpret_cast<Slot*>(upper_.data());
  return {};
}

Status Storage::prepare(std::size_t n) {
  const std::lock_guard lock(mutex_);
  const std::size_t fresh = n - std::min(n, free_.size());
  const std::size_t needed = end_.load(std::memory_order_relaxed) + fresh;
  if (!commit(needed)) {
    return {Code::resource_exhausted, "no room for " + std::to_string(n) + " more items; at most " +
                                          std::to_string(max_slots_) +
                                          " fit here: compact the index, add fewer or split it"};
  }
  return {};
}

bool Storage::commit(std::size_t slots) {
  return slots <= max_slots_ && blocks_.commit(slots * block_bytes_) && nodes_.commit(slots * sizeof(Node)) &&
         (originals_.data() == nullptr || originals_.commit(slots * original_stride_));
}

Slot Storage::allocate(std::uint8_t level) {
  const Slot slot = take(level);
  // Without the mutex: a new block may be the first on its page, which takes the system a while. Nobody looks
  // at the links of a pending node to which none leads.
  if (slot != no_slot) clear_links(slot);
  return slot;
}

Slot Storage::take(std::uint8_t level) {
  const std::lock_guard lock(mutex_);
  const bool fresh = free_.empty();
  const Slot slot = fresh ? end_.load(std::memory_order_relaxed) : free_.back();
  if (fresh && !commit(std::size_t{slot} + 1)) return no_slot;
  if (!allocate_upper(slot, level)) return no_slot;
  Node& n = node(slot);
  n.level = level;
  n.died = 0;
  set_parent(slot, no_slot);
  set_state(slot, State::pending);
  if (fresh) {
    end_.store(slot + 1, std::memory_order_release);
    used_end_ = std::max(used_end_, slot + 1);
  } else {
    free_.pop_back();
  }
  return slot;
}

void Storage::clear_links(Slot slot) {
  const Links places{links(slot, 0).at, static_cast<std::uint32_t>(link_places())};
  for (std::size_t i = 0; i < places.count; ++i) places.store(i, no_slot);
  for (std::uint32_t l = 1; l <= node(slot).level; ++l) {
    const Links upper = links(slot, l);
    for (std::size_t i = 0; i < upper.count; ++i) upper.store(i, no_slot);
  }
}

bool Storage::allocate_upper(Slot slot, std::uint8_t level) {
  if (level == 0) return true;
  auto& reusable = free_upper_[level];
  if (!reusable.empty()) {
    node(slot).upper = reusable.back();
    reusable.pop_back();
    return true;
  }
  const std::size_t needed = std::size_t{upper_end_} + level;
  if (needed > max_runs_ || !upper_.commit(needed * upper_links_ * sizeof(Slot))) return false;
  node(slot).upper = upper_end_;
  upper_end_ += level;
  return true;
}

void Storage::free_locked(Slot slot) {
  if (const std::uint8_t level = node(slot).level; level != 0) {
    free_upper_[level].push_back(node(slot).upper);
  }
  set_state(slot, State::free);
}

void Storage::free(std::span<const Slot> slots) {
  const std::lock_guard lock(mutex_);
  for (const Slot slot : slots) free_locked(slot);
  const auto before = static_cast<std::ptrdiff_t>(free_.size());
  free_.insert(free_.end(), slots.begin(), slots.end());
  std::sort(free_.begin() + before, free_.end(), std::greater<>());
  std::inplace_merge(free_.begin(), free_.begin() + before, free_.end(), std::greater<>());
}

void Storage::trim() {
  {
    const std::lock_guard lock(mutex_);
    Slot end = end_.load(std::memory_order_relaxed);
    while (end > 0 && state(end - 1) == State::free) --end;
    end_.store(end, std::memory_order_release);
    free_.erase(free_.begin(), std::find_if(free_.begin(), free_.end(), [end](Slot s) { return s < end; }));
    free_.shrink_to_fit();
  }
  while (release_some()) {
  }
}

// From the top, a few megabytes at a time, so that nobody who needs a slot waits long.
bool Storage::release_some() {
  const std::lock_guard lock(mutex_);
  const Slot end = end_.load(std::memory_order_relaxed);
  const Slot step = static_cast<Slot>(released_at_once / block_bytes_ + 1);
  const Slot from = std::max(end, used_end_ - std::min(used_end_, step));
  if (from >= used_end_) return false;
  blocks_.release(from * block_bytes_);
  if (originals_.data() != nullptr) originals_.release(from * original_stride_);
  nodes_.release(from * sizeof(Node));
  used_end_ = from;
  return true;
}

std::size_t Storage::free_count() const {
  const std::lock_guard lock(mutex_);
  return free_.size();
}

Slot Storage::lowest_free() const {
  const std::lock_guard lock(mutex_);
  return free_.empty() ? no_slot : free_.back();
}

Status Storage::restore(Slot end, std::uint32_t runs) {
  const std::lock_guard lock(mutex_);
  if (runs > max_runs_ || !commit(end) || !upper_.commit(std::size_t{runs} * upper_links_ * sizeof(Slot))) {
    return {Code::resource_exhausted, "no memory for the " + std::to_string(end) + " items of this file"};
  }
  upper_end_ = runs;
  used_end_ = end;
  end_.store(end, std::memory_order_release);
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
  const std::lock_guard lock(mutex_);
  free_.assign(slots.rbegin(), slots.rend());
}

Storage::Resident Storage::resident() const {
  const std::lock_guard lock(mutex_);
  std::size_t lists = free_.capacity() * sizeof(Slot);
  for (const auto& runs : free_upper_) lists += sizeof(runs) + runs.capacity() * sizeof(std::uint32_t);
  return {blocks_.resident(), originals_.resident(), nodes_.resident(), upper_.resident(), lists};
}

} // namespace embedcore::hnsw
