// Probing, growing and publishing of the id table.
#include "hnsw/id_table.h"

#include <algorithm>
#include <bit>

#include "common/xxhash.h"

namespace embedcore::hnsw {

namespace {

// Linear probing with at most this share of cells in use keeps chains around two cells.
constexpr std::size_t load_numerator = 5;
constexpr std::size_t load_denominator = 8;

} // namespace

IdTable::IdTable(const Storage& storage, EpochDomain& epochs, std::size_t capacity)
    : storage_(storage), epochs_(epochs) {
  const std::size_t cells = std::max<std::size_t>(64, capacity * load_denominator / load_numerator + 1);
  table_.store(new Table(std::bit_ceil(cells)), std::memory_order_release);
}

IdTable::~IdTable() { delete table_.load(std::memory_order_relaxed); }

std::size_t IdTable::home(std::int64_t id, std::size_t size) {
  return static_cast<std::size_t>(mix64(static_cast<std::uint64_t>(id) + 0x9E3779B97F4A7C15ull)) & (size - 1);
}

Slot IdTable::find(std::int64_t id) const {
  const Table& table = *table_.load(std::memory_order_acquire);
  const std::size_t size = table.cells.size();
  for (std::size_t i = home(id, size);; i = (i + 1) & (size - 1)) {
    const Slot slot = table.cells[i].load(std::memory_order_acquire);
    if (slot == no_slot) return no_slot;
    if (slot != erased && storage_.node(slot).id == id) return slot;
  }
}

Slot IdTable::put(Slot slot) {
  Table* table = table_.load(std::memory_order_relaxed);
  if ((used_ + 1) * load_denominator > table->cells.size() * load_numerator) {
    grow();
    table = table_.load(std::memory_order_relaxed);
  }
  const std::int64_t id = storage_.node(slot).id;
  const std::size_t size = table->cells.size();
  std::size_t reusable = size;
  for (std::size_t i = home(id, size);; i = (i + 1) & (size - 1)) {
    const Slot there = table->cells[i].load(std::memory_order_relaxed);
    if (there == no_slot) {
      ++mapped_;
      if (reusable == size) {
        reusable = i;
        ++used_;
      }
      table->cells[reusable].store(slot, std::memory_order_release);
      return no_slot;
    }
    if (there == erased) {
      if (reusable == size) reusable = i;
    } else if (storage_.node(there).id == id) {
      table->cells[i].store(slot, std::memory_order_release);
      return there;
    }
  }
}

Slot IdTable::erase(std::int64_t id) {
  Table& table = *table_.load(std::memory_order_relaxed);
  const std::size_t size = table.cells.size();
  for (std::size_t i = home(id, size);; i = (i + 1) & (size - 1)) {
    const Slot slot = table.cells[i].load(std::memory_order_relaxed);
    if (slot == no_slot) return no_slot;
    if (slot == erased || storage_.node(slot).id != id) continue;
    table.cells[i].store(erased, std::memory_order_release);
    --mapped_;
    return slot;
  }
}

std::vector<Slot> IdTable::slots() const {
  std::vector<Slot> all;
  all.reserve(mapped_);
  for (const auto& cell : table_.load(std::memory_order_relaxed)->cells) {
    const Slot slot = cell.load(std::memory_order_relaxed);
    if (slot != no_slot && slot != erased) all.push_back(slot);
  }
  return all;
}

std::size_t IdTable::bytes() const {
  return table_.load(std::memory_order_relaxed)->cells.size() * sizeof(std::atomic<Slot>);
}

void IdTable::grow() {
  Table* old = table_.load(std::memory_order_relaxed);
  // Many erased cells: the same size cleans them out. Otherwise twice the size.
  const std::size_t size = mapped_ * 4 > old->cells.size() ? old->cells.size() * 2 : old->cells.size();
  auto* fresh = new Table(size);
  for (const auto& cell : old->cells) {
    const Slot slot = cell.load(std::memory_order_relaxed);
    if (slot == no_slot || slot == erased) continue;
    std::size_t i = home(storage_.node(slot).id, size);
    while (fresh->cells[i].load(std::memory_order_relaxed) != no_slot) i = (i + 1) & (size - 1);
    fresh->cells[i].store(slot, std::memory_order_relaxed);
  }
  used_ = mapped_;
  table_.store(fresh, std::memory_order_release);
  epochs_.retire([old] { delete old; });
}

} // namespace embedcore::hnsw
