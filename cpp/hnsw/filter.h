// A set of ids as a filter: built once, used by any number of searches at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hnsw/index.h"

namespace embedcore::hnsw {

// Immutable after construction, so any thread may use it. allows() reads one bit where the ids lie densely
// enough, and searches a small hash table otherwise.
class IdSet : public IdFilter {
 public:
  // In any order; repeated and negative ids are ignored.
  explicit IdSet(std::span<const std::int64_t> ids);

  [[nodiscard]] bool allows(std::int64_t id) const override;
  [[nodiscard]] std::span<const std::int64_t> listed() const override { return ids_; }
  [[nodiscard]] std::size_t size() const { return ids_.size(); }
  [[nodiscard]] std::size_t memory_bytes() const;

 private:
  std::vector<std::int64_t> ids_;   // ascending
  std::vector<std::uint64_t> bits_; // of id - ids_.front(); empty when ids_ is sparse
  std::vector<std::int64_t> table_; // open addressing, -1 empty; only when bits_ is empty
};

} // namespace embedcore::hnsw
