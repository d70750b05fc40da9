// id -> slot, read and written without locks.
//
// Open addressing over one word a cell. A cell holds a slot; the id is read from that slot's node, so
// replacing an item is one compare-and-swap. A cell that was claimed for an id stays that id's for as long as
// its table lives, removed or not: so an id never has two cells, however many threads add it at once.
//
//   empty        -> live         put, by whoever adds the id first
//   live s       -> live t       put: s is replaced, and its caller alone is told so
//   live s       -> erased s     erase
//   erased s     -> live t       put
//   erased s     -> dead         forget: slot s is about to be reused, the cell can no longer name its id
//   and while the items move to another table, in which from then on everything is changed:
//   live s       -> frozen s     the move begins: no change here any more
//   frozen s     -> sealed s     the other table has a cell for the id
//   erased, dead, empty -> sealed  nothing to move
//
// Growing. A table that is full, or full of cells of ids gone, gets a `next`. Every writer that comes then
// moves some cells, and the ones in its way, before it does its own work there; the last cell moved makes
// `next` the table and retires the old one through the epochs. Readers look in the old table first, and in
// the next where a cell says so. Moving a cell twice, or late, changes nothing: a copy is made only if the id
// has no cell yet.
//
// Why a late copy cannot bring back what was removed since. Who copies slot s read `frozen s` under a guard.
// Whoever unmaps s has sealed that cell first, as every change of an id does, so guards taken later cannot
// read it. A cell loses its name (forget) only when the guards held at give_up are gone: copiers that are
// still under way find it. The slot is reused when those held at that time are gone too: nobody reads the id
// of a reused slot. Sealed cells keep their slot, for a copier that a second move has overtaken.
//
// Guarantees
//   * put, erase and find of one id are linearizable, at the exchange or load of the id's cell.
//   * find is wait-free as long as no table is replaced during the call, and lock-free otherwise.
//   * put and erase are lock-free but for the memory of a larger table, which the system provides.
//   * Callers hold a guard of the epoch domain, as long as they use a slot that they were given.
//
// Atomics: cells are exchanged with acq_rel and loaded with acquire, so that whoever reads a slot sees its
// node complete; `next` and the table likewise. Counters only decide when to grow.
//
// Host gives: id_of(slot); retire(callback), retire(callback, callback), as EpochDomain::retire. The tests
// run this over all interleavings with a host and atomics of their own.
//
// When not to use it: where ids are removed for good by the million while none is added (cells of the dead
// stay until the next move), or where the key is not in the value.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "common/mutant.h"
#include "hnsw/id_cells.h"

namespace embedcore::hnsw {

// helped: cells of an old table that a writer moves on its way.
template <class Atomics, class Host, std::size_t helped = 128>
class BasicIdTable {
 public:
  // Sized for capacity items; grows by itself. fewest: cells of the smallest table, a power of two.
  BasicIdTable(Host host, std::size_t capacity, std::size_t fewest = 1024)
      : host_(host), fewest_(fewest), table_(new Table(cells_for(capacity))) {}
  ~BasicIdTable() {
    Table* table = table_.load(std::memory_order_acquire);
    delete table->next.load(std::memory_order_acquire);
    delete table;
    for (Table* left = left_.load(std::memory_order_acquire); left != nullptr;)
      delete std::exchange(left, left->below);
  }
  BasicIdTable(const BasicIdTable&) = delete;
  BasicIdTable& operator=(const BasicIdTable&) = delete;

  // The id's slot, or no_slot.
  [[nodiscard]] Slot find(std::int64_t id) const;

  // Maps the id of slot's node to slot and returns the slot it was mapped to, or no_slot. replacing() is
  // called once before the first attempt to take the place of another slot; somebody else may erase that
  // first.
  template <class Replacing>
  Slot put(Slot slot, Replacing replacing);
  Slot put(Slot slot) {
    return put(slot, [] {});
  }
  // Unmaps the id and returns its slot, or no_slot. erasing() is called once before the first attempt.
  template <class Erasing>
  Slot erase(std::int64_t id, Erasing erasing);
  Slot erase(std::int64_t id) {
    return erase(id, [] {});
  }

  // The first cell that find or put will look at, from memory.
  void ask_for(std::int64_t id) const {
    __builtin_prefetch(&Chain(*table_.load(std::memory_order_acquire), id).cell(), 1, 3);
  }

  // Sees to it that some more ids fit, so that put will not have to ask for memory. May throw std::bad_alloc.
  void make_room() {
    Table* table = table_.load(std::memory_order_acquire);
    if (table->claimed.load(std::memory_order_relaxed) + spare > table->limit()) grow(*table);
  }

  // Retires slots, which their ids are not mapped to any more: calls free() when neither the table nor a
  // reader can name them. Pre-condition: nothing else leads to them. std::bad_alloc: nothing was retired.
  template <class Free>
  void give_up(const std::vector<Slot>& slots, Free free);

  // Every mapped slot, in no order. Beside writers: of an id that they change meanwhile none, one or both.
  [[nodiscard]] std::vector<Slot> slots() const;
  [[nodiscard]] std::size_t bytes() const;

 private:
  using Table = IdCells<Atomics>;
  using Cell = typename Table::Cell;
  using Chain = IdChain<Atomics>;

  [[nodiscard]] std::size_t cells_for(std::size_t items) const {
    return std::bit_ceil(std::max(fewest_, items * 8 / 5 + 1));
  }
  [[nodiscard]] bool is_of(std::uint32_t cell, std::int64_t id) const {
    return id_cell::names(cell) && host_.id_of(id_cell::slot_of(cell)) == id;
  }
  static bool exchange(Cell& cell, std::uint32_t& seen, std::uint32_t wanted) {
    return cell.compare_exchange_strong(seen, wanted, std::memory_order_acq_rel, std::memory_order_acquire);
  }

  // About: counted after the exchanges, so that for a moment more may seem gone than there were.
  [[nodiscard]] std::size_t mapped() const {
    const auto count = static_cast<std::ptrdiff_t>(mapped_.load(std::memory_order_relaxed));
    return static_cast<std::size_t>(std::max<std::ptrdiff_t>(count, 0));
  }
  [[nodiscard]] bool still_names(Slot slot) const;
  void forget(Slot slot);
  [[nodiscard]] std::uint32_t find_in(const Table& table, std::int64_t id) const;
  Table* writable(Table* table, std::int64_t id);
  struct Place {
    Table& table;
    Cell& cell;
    std::uint32_t seen;
  };
  [[nodiscard]] Place place_of(std::int64_t id);
  bool claim(Table& table);
  void grow(Table& table);
  void move_cell(Table& to, Cell& from);
  void move_chain(const Table& from, Table& to, std::int64_t id);
  void copy(Table& to, std::uint32_t live);
  void help(Table& table, Table& next);
  void finish(Table& table, Table& next);
  void replace(Table* table, Table* next);

  static constexpr std::size_t spare = 64; // adds under way at a time, about

  Host host_;
  const std::size_t fewest_;
  typename Atomics::template Atomic<Table*> table_;
  typename Atomics::template Atomic<Table*> left_{nullptr}; // stays as long as this: no memory to retire it
  typename Atomics::template Atomic<std::size_t> mapped_{0};
};

template <class A, class H, std::size_t n>
Slot BasicIdTable<A, H, n>::find(std::int64_t id) const {
  const std::uint32_t cell = find_in(*table_.load(std::memory_order_acquire), id);
  return id_cell::is_live(cell) ? id_cell::slot_of(cell) : no_slot;
}

// The id's cell as it was at some moment of the call: live or erased; empty where it has none.
template <class A, class H, std::size_t n>
std::uint32_t BasicIdTable<A, H, n>::find_in(const Table& table, std::int64_t id) const {
  bool leaves = false; // the id's cell may have moved to the next table
  std::uint32_t here = id_cell::empty;
  for (Chain chain(table, id);; chain.go_on()) {
    const std::uint32_t cell = chain.load();
    if (!id_cell::is_sealed(cell) && is_of(cell, id)) {
      if (!id_cell::is_frozen(cell)) return cell;
      here = cell & ~id_cell::frozen;
      leaves = true;
      break;
    }
    leaves = leaves || id_cell::is_sealed(cell);
    if (id_cell::ends_chain(cell)) break;
  }
  if (!leaves) return id_cell::empty;
  const std::uint32_t there = find_in(*table.next.load(std::memory_order_acquire), id);
  // Not there yet: what is frozen here is what the id is mapped to.
  return there == id_cell::empty ? here : there;
}

// The table in which the id is changed now: where `table` has a next, some of its cells are moved, and those
// that may be the id's, so that no change is made to them here any more.
template <class A, class H, std::size_t n>
auto BasicIdTable<A, H, n>::writable(Table* table, std::int64_t id) -> Table* {
  while (Table* next = table->next.load(std::memory_order_acquire)) {
    move_chain(*table, *next, id);
    help(*table, *next);
    table = next;
  }
  return table;
}

// Where the id is changed now: its cell, or the empty one at the end of its chain, as it was a moment ago.
template <class A, class H, std::size_t n>
auto BasicIdTable<A, H, n>::place_of(std::int64_t id) -> Place {
  for (;;) {
    Table* table = writable(table_.load(std::memory_order_acquire), id);
    for (Chain chain(*table, id);; chain.go_on()) {
      const std::uint32_t cell = chain.load();
      if ((cell & id_cell::frozen) != 0) break; // moving: again, in the next one
      if (cell == id_cell::empty || is_of(cell, id)) return {*table, chain.cell(), cell};
    }
  }
}

template <class A, class H, std::size_t n>
template <class Replacing>
Slot BasicIdTable<A, H, n>::put(Slot slot, Replacing replacing) {
  const std::int64_t id = host_.id_of(slot);
  bool told = false;
  for (;;) {
    const Place at = place_of(id);
    const bool replaces = id_cell::is_live(at.seen);
    const bool claims = at.seen == id_cell::empty;
    if (claims && !claim(at.table)) continue;
    if (replaces && !told) replacing();
    told = told || replaces;
    std::uint32_t seen = at.seen;
    if (exchange(at.cell, seen, id_cell::live(slot))) {
      if (replaces) return id_cell::slot_of(at.seen);
      mapped_.fetch_add(1, std::memory_order_relaxed);
      return no_slot;
    }
    if (claims) at.table.claimed.fetch_add(static_cast<std::size_t>(-1), std::memory_order_relaxed);
  }
}

template <class A, class H, std::size_t n>
template <class Erasing>
Slot BasicIdTable<A, H, n>::erase(std::int64_t id, Erasing erasing) {
  bool told = false;
  for (;;) {
    const Place at = place_of(id);
    if (!id_cell::is_live(at.seen)) return no_slot;
    if (!told) erasing();
    told = true;
    std::uint32_t seen = at.seen;
    if (!exchange(at.cell, seen, at.seen | id_cell::erased)) continue;
    mapped_.fetch_add(static_cast<std::size_t>(-1), std::memory_order_relaxed);
    return id_cell::slot_of(at.seen);
  }
}

template <class A, class H, std::size_t n>
template <class Free>
void BasicIdTable<A, H, n>::give_up(const std::vector<Slot>& slots, Free free) {
  std::vector<Slot> named;
  for (const Slot slot : slots) {
    if (still_names(slot)) named.push_back(slot);
  }
  if (named.empty()) return host_.retire(free);
  auto forget_all = [this, named = std::move(named)] {
    for (const Slot slot : named) forget(slot);
  };
  if (mutant("early_forget")) return forget_all(), host_.retire(free);
  host_.retire(std::move(forget_all), std::move(free));
}

template <class A, class H, std::size_t n>
bool BasicIdTable<A, H, n>::still_names(Slot slot) const {
  const std::int64_t id = host_.id_of(slot);
  for (const Table* table = table_.load(std::memory_order_acquire); table != nullptr;
       table = table->next.load(std::memory_order_acquire)) {
    for (Chain chain(*table, id);; chain.go_on()) {
      const std::uint32_t cell = chain.load();
      if (cell == (id_cell::erased | id_cell::live(slot))) return true;
      if (id_cell::ends_chain(cell)) break;
    }
  }
  return false;
}

// The cell of a removed id, where it has not been sealed since.
template <class A, class H, std::size_t n>
void BasicIdTable<A, H, n>::forget(Slot slot) {
  const std::int64_t id = host_.id_of(slot);
  for (Table* table = table_.load(std::memory_order_acquire); table != nullptr;
       table = table->next.load(std::memory_order_acquire)) {
    for (Chain chain(*table, id);; chain.go_on()) {
      std::uint32_t cell = chain.load();
      if (id_cell::ends_chain(cell)) break;
      if (cell == (id_cell::erased | id_cell::live(slot)) && exchange(chain.cell(), cell, id_cell::dead))
        return;
    }
  }
}

template <class A, class H, std::size_t n>
std::vector<Slot> BasicIdTable<A, H, n>::slots() const {
  std::vector<Slot> all;
  all.reserve(mapped());
  for (const Table* table = table_.load(std::memory_order_acquire); table != nullptr;
       table = table->next.load(std::memory_order_acquire)) {
    for (std::size_t i = 0; i < table->size; ++i) {
      const std::uint32_t cell = table->cells[i].load(std::memory_order_acquire);
      if (id_cell::is_live(cell) || id_cell::is_frozen(cell)) all.push_back(id_cell::slot_of(cell));
    }
  }
  return all;
}

template <class A, class H, std::size_t n>
std::size_t BasicIdTable<A, H, n>::bytes() const {
  std::size_t cells = 0;
  for (const Table* table = table_.load(std::memory_order_acquire); table != nullptr;
       table = table->next.load(std::memory_order_acquire))
    cells += table->size;
  return cells * sizeof(Cell);
}

} // namespace embedcore::hnsw

#include "hnsw/id_table_moving.h"
