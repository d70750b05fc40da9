// How an id table moves to a larger one, cell by cell and by whoever comes along. A part of id_table.h, which
// says why it is right.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "hnsw/id_table.h"

namespace embedcore::hnsw {

// One more cell for a new id, or false: the table is full, and now has a next.
template <class A, class H, std::size_t n>
bool BasicIdTable<A, H, n>::claim(Table& table) {
  if (table.claimed.fetch_add(1, std::memory_order_relaxed) < table.limit()) return true;
  table.claimed.fetch_add(static_cast<std::size_t>(-1), std::memory_order_relaxed);
  // One move at a time: that into this table has to end first.
  Table* current = table_.load(std::memory_order_acquire);
  if (current != &table) {
    if (current->next.load(std::memory_order_acquire) == &table) finish(*current, table);
  } else {
    grow(table);
  }
  return false;
}

template <class A, class H, std::size_t n>
void BasicIdTable<A, H, n>::grow(Table& table) {
  if (table.next.load(std::memory_order_acquire) != nullptr) return;
  // Many cells of ids gone: the same size cleans them out. Otherwise twice the size.
  const bool full = mapped() * 4 > table.size;
  auto next = std::make_unique<Table>(full ? table.size * 2 : table.size);
  Table* none = nullptr;
  if (table.next.compare_exchange_strong(none, next.get(), std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
    static_cast<void>(next.release());
  }
}

template <class A, class H, std::size_t n>
void BasicIdTable<A, H, n>::move_cell(Table& to, Cell& from) {
  std::uint32_t cell = from.load(std::memory_order_acquire);
  for (;;) {
    if (id_cell::is_sealed(cell)) return;
    if (cell == id_cell::empty || id_cell::is_erased(cell)) {
      if (exchange(from, cell, cell | id_cell::sealed)) return;
    } else if (cell == id_cell::dead) {
      if (exchange(from, cell, id_cell::sealed_dead)) return;
    } else if (id_cell::is_live(cell)) {
      if (exchange(from, cell, cell | id_cell::frozen)) cell |= id_cell::frozen;
    } else {
      copy(to, cell & ~id_cell::frozen);
      if (exchange(from, cell, cell | id_cell::sealed)) return;
    }
  }
}

// The cells that may be the id's, up to the end of the chain, which becomes an end that cannot be claimed.
template <class A, class H, std::size_t n>
void BasicIdTable<A, H, n>::move_chain(const Table& from, Table& to, std::int64_t id) {
  for (Chain chain(from, id);; chain.go_on()) {
    move_cell(to, chain.cell());
    if (id_cell::ends_chain(chain.load())) return;
  }
}

// A live cell of the old table into the new one, unless the id has a cell there.
template <class A, class H, std::size_t n>
void BasicIdTable<A, H, n>::copy(Table& to, std::uint32_t live) {
  const std::int64_t id = host_.id_of(id_cell::slot_of(live));
  Chain chain(to, id);
  for (std::uint32_t cell = chain.load();;) {
    if (cell == id_cell::empty) {
      if (!exchange(chain.cell(), cell, live)) continue;
      to.claimed.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    // Of a table that is itself being left: the id's cell was copied long ago.
    if (cell == id_cell::sealed_empty || (is_of(cell, id) && !mutant("blind_copy"))) return;
    chain.go_on();
    cell = chain.load();
  }
}

template <class A, class H, std::size_t n>
void BasicIdTable<A, H, n>::help(Table& table, Table& next) {
  if (table.cursor.load(std::memory_order_relaxed) >= table.size) return;
  const std::size_t from = table.cursor.fetch_add(n, std::memory_order_relaxed);
  if (from >= table.size) return;
  const std::size_t to = std::min(from + n, table.size);
  for (std::size_t i = from; i < to; ++i) move_cell(next, table.cells[i]);
  if (table.moved.fetch_add(to - from, std::memory_order_acq_rel) + (to - from) == table.size)
    replace(&table, &next);
}

// All of it, whoever was handed what.
template <class A, class H, std::size_t n>
void BasicIdTable<A, H, n>::finish(Table& table, Table& next) {
  for (std::size_t i = 0; i < table.size; ++i) move_cell(next, table.cells[i]);
  replace(&table, &next);
}

template <class A, class H, std::size_t n>
void BasicIdTable<A, H, n>::replace(Table* table, Table* next) {
  Table* left = table;
  if (!table_.compare_exchange_strong(left, next, std::memory_order_acq_rel, std::memory_order_acquire))
    return;
  try {
    host_.retire([table] { delete table; });
  } catch (const std::bad_alloc&) { // put and erase must not fail half done
    table->below = left_.load(std::memory_order_acquire);
    while (!left_.compare_exchange_strong(table->below, table, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) {
    }
  }
}

} // namespace embedcore::hnsw
