// The id set: a bitmap where that is smaller than a hash table.
#include "hnsw/filter.h"

#include <algorithm>
#include <bit>

#include "common/xxhash.h"

namespace embedcore::hnsw {

IdSet::IdSet(std::span<const std::int64_t> ids) : ids_(ids.begin(), ids.end()) {
  std::sort(ids_.begin(), ids_.end());
  ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
  ids_.erase(ids_.begin(), std::lower_bound(ids_.begin(), ids_.end(), 0));
  if (ids_.empty()) return;
  // A hash cell has 64 bits and half of the cells are empty: 128 bits an id.
  const auto range = static_cast<std::uint64_t>(ids_.back() - ids_.front());
  if (range / 128 < ids_.size()) {
    bits_.resize(range / 64 + 1);
    for (const std::int64_t id : ids_) {
      const auto at = static_cast<std::uint64_t>(id - ids_.front());
      bits_[at / 64] |= std::uint64_t{1} << (at % 64);
    }
    return;
  }
  table_.assign(std::bit_ceil(2 * ids_.size()), -1);
  const std::size_t mask = table_.size() - 1;
  for (const std::int64_t id : ids_) {
    std::size_t i = mix64(static_cast<std::uint64_t>(id)) & mask;
    while (table_[i] != -1) i = (i + 1) & mask;
    table_[i] = id;
  }
}

bool IdSet::allows(std::int64_t id) const {
  if (ids_.empty() || id < ids_.front() || id > ids_.back()) return false;
  if (!bits_.empty()) {
    const auto at = static_cast<std::uint64_t>(id - ids_.front());
    return (bits_[at / 64] >> (at % 64) & 1) != 0;
  }
  const std::size_t mask = table_.size() - 1;
  std::size_t i = mix64(static_cast<std::uint64_t>(id)) & mask;
  while (table_[i] != -1 && table_[i] != id) i = (i + 1) & mask;
  return table_[i] == id;
}

std::size_t IdSet::memory_bytes() const {
  return (ids_.capacity() + table_.capacity()) * sizeof(std::int64_t) +
         bits_.capacity() * sizeof(std::uint64_t);
}

} // namespace embedcore::hnsw
