// id -> slot, read without locks.
//
// Open addressing over 32-bit slots only: the id itself is read from the slot's node, so that an entry is
// one word and replacing an item is one atomic store.
//
//   table_   the current table. Writers publish a larger one with release, readers load with acquire; the
//            old one is retired through the epoch domain.
//   cells    empty -> slot -> slot (replaced) -> erased -> slot ... Writers store with release.
//
// Guarantee: find() returns what the id was mapped to at some moment of the call.
// Readers must hold a guard of the epoch domain; writers must hold one lock (Index::Impl::table_mutex).
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "common/epoch.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

class IdTable {
 public:
  // Sized for capacity items; grows by itself.
  IdTable(const Storage& storage, EpochDomain& epochs, std::size_t capacity);
  ~IdTable();
  IdTable(const IdTable&) = delete;
  IdTable& operator=(const IdTable&) = delete;

  // The id's slot, or no_slot.
  [[nodiscard]] Slot find(std::int64_t id) const;

  // Writers. put maps the id of slot's node to slot and returns the slot it was mapped to, or no_slot.
  Slot put(Slot slot);
  // Unmaps the id and returns its slot, or no_slot.
  Slot erase(std::int64_t id);
  // Every mapped slot, in no order.
  [[nodiscard]] std::vector<Slot> slots() const;

  [[nodiscard]] std::size_t bytes() const;

 private:
  struct Table {
    explicit Table(std::size_t size) : cells(size) {
      for (auto& cell : cells) cell.store(no_slot, std::memory_order_relaxed);
    }
    std::vector<std::atomic<Slot>> cells; // a power of two
  };
  static constexpr Slot erased = no_slot - 1;

  [[nodiscard]] static std::size_t home(std::int64_t id, std::size_t size);
  void grow();

  const Storage& storage_;
  EpochDomain& epochs_;
  std::atomic<Table*> table_;
  std::size_t mapped_ = 0; // writers only
  std::size_t used_ = 0;   // mapped or erased cells
};

} // namespace embedcore::hnsw
