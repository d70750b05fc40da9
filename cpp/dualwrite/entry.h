// What the ring carries: one write of one item, and where each lane's vector of it lies.
//
// Vectors lie outside of the entries, in *columns*: one per vector space that producers hand in, a block of
// ring.size() rows. The row of an entry is the ring's place for its position, so it is recycled with it, and
// consecutive entries have consecutive rows. A lane has a column of its own, or follows another lane's where
// both hold the same vectors (a rebuild, a replica).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "dualwrite/ring.h"
#include "hnsw/index.h"

namespace embedcore::dualwrite {

enum class Op : std::uint8_t { upsert, remove };

inline constexpr std::uint32_t all_lanes = ~std::uint32_t{0};

struct Entry {
  std::uint64_t sequence = 0;
  std::int64_t id = 0;
  std::uint32_t present = 0;       // columns, by place, that hold a vector of this entry
  std::uint32_t lanes = all_lanes; // gates of the lanes that it is for
  Op op = Op::upsert;
};

using WriteRing = Ring<Entry>;

// The vectors of one vector space. Rows are written by the producer that claimed the position, before it
// publishes, and read by lanes in their turn: the ring's pairs (1) and (2) order both.
class Column {
 public:
  Column(std::uint32_t number, std::uint32_t place, const hnsw::Config& rules, std::size_t rows)
      : number_(number),
        place_(place),
        rules_(rules),
        rows_(std::make_unique_for_overwrite<float[]>(rows * rules.dim)) {}

  [[nodiscard]] std::uint32_t number() const { return number_; } // of the lane that it was made for
  [[nodiscard]] std::uint32_t bit() const { return std::uint32_t{1} << place_; }
  [[nodiscard]] std::uint32_t place() const { return place_; }
  // What a vector has to satisfy: dimension, metric, dtype.
  [[nodiscard]] const hnsw::Config& rules() const { return rules_; }
  [[nodiscard]] float* row(std::size_t place) { return rows_.get() + place * rules_.dim; }
  [[nodiscard]] const float* row(std::size_t place) const { return rows_.get() + place * rules_.dim; }

  // Positions up to it carry nothing for this column, whatever their bits say of an earlier one.
  [[nodiscard]] std::uint64_t born() const { return born_.load(std::memory_order_acquire); }
  void set_born(std::uint64_t position) { born_.store(position, std::memory_order_release); }

 private:
  const std::uint32_t number_, place_;
  const hnsw::Config rules_;
  std::atomic<std::uint64_t> born_{0};
  std::unique_ptr<float[]> rows_; // pages are touched as the ring goes round for the first time
};

// What producers see of the lanes, as of one moment: replaced as a whole, freed by epochs.
struct Layout {
  std::vector<std::shared_ptr<Column>> columns;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> gates; // lane number, gate
  std::uint32_t numbers = 0;                                  // lanes ever attached
  std::uint64_t version = 0;

  [[nodiscard]] Column* column_of(std::uint32_t number) const {
    for (const auto& column : columns) {
      if (column->number() == number) return column.get();
    }
    return nullptr;
  }
};

} // namespace embedcore::dualwrite
