// The cells of an id table (id_table.h): what one word says, a table of them, and the walk along those that
// may be an id's.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "common/xxhash.h"
#include "hnsw/link_list.h"

namespace embedcore::hnsw {

// A cell: a slot + 1 in the low bits, or 0, and what became of it in the two top bits.
namespace id_cell {

constexpr std::uint32_t erased = std::uint32_t{1} << 31;
constexpr std::uint32_t frozen = std::uint32_t{1} << 30;
constexpr std::uint32_t sealed = erased | frozen;
constexpr std::uint32_t number = frozen - 1;
constexpr std::uint32_t empty = 0;
constexpr std::uint32_t dead = erased;         // claimed once, by an id that nobody can name any more
constexpr std::uint32_t sealed_dead = frozen;  // likewise, in a table that is left
constexpr std::uint32_t sealed_empty = sealed; // the end of a chain there

constexpr std::uint32_t live(Slot slot) { return slot + 1; }
constexpr Slot slot_of(std::uint32_t cell) { return (cell & number) - 1; }
constexpr bool names(std::uint32_t cell) { return (cell & number) != 0; }
constexpr bool is_live(std::uint32_t cell) { return (cell & sealed) == 0 && names(cell); }
constexpr bool is_erased(std::uint32_t cell) { return (cell & sealed) == erased && names(cell); }
constexpr bool is_frozen(std::uint32_t cell) { return (cell & sealed) == frozen && names(cell); }
constexpr bool is_sealed(std::uint32_t cell) { return (cell & sealed) == sealed || cell == sealed_dead; }
constexpr bool ends_chain(std::uint32_t cell) { return cell == empty || cell == sealed_empty; }

} // namespace id_cell

template <class Atomics>
struct IdCells {
  using Cell = typename Atomics::template Atomic<std::uint32_t>;

  // size: a power of two. The system gives zeroed pages, which say empty, when they are first touched: so a
  // large table takes no longer to make than a small one.
  explicit IdCells(std::size_t n) : size(n), cells(static_cast<Cell*>(std::calloc(n, sizeof(Cell)))) {
    if (cells == nullptr) throw std::bad_alloc();
  }
  ~IdCells() { std::free(cells); }
  IdCells(const IdCells&) = delete;
  IdCells& operator=(const IdCells&) = delete;

  // Cells that new ids may claim: with so many, chains are around two cells long.
  [[nodiscard]] std::size_t limit() const { return size / 8 * 5; }

  const std::size_t size;
  Cell* const cells;
  typename Atomics::template Atomic<std::size_t> claimed{0};
  typename Atomics::template Atomic<std::size_t> cursor{0}; // cells handed out to be moved
  typename Atomics::template Atomic<std::size_t> moved{0};  // of those, cells that are
  typename Atomics::template Atomic<IdCells*> next{nullptr};
  IdCells* below = nullptr; // the next one of those that could not be retired
};

template <class Atomics>
class IdChain {
 public:
  IdChain(const IdCells<Atomics>& table, std::int64_t id)
      : cells_(table.cells),
        mask_(table.size - 1),
        at_(static_cast<std::size_t>(mix64(static_cast<std::uint64_t>(id) + 0x9E3779B97F4A7C15ull)) & mask_) {
  }
  [[nodiscard]] typename IdCells<Atomics>::Cell& cell() const { return cells_[at_]; }
  [[nodiscard]] std::uint32_t load() const { return cell().load(std::memory_order_acquire); }
  void go_on() { at_ = (at_ + 1) & mask_; }

 private:
  typename IdCells<Atomics>::Cell* cells_;
  std::size_t mask_;
  std::size_t at_;
};

} // namespace embedcore::hnsw
