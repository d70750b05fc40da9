// The newest sequence number that a lane has seen of each item, removed ones included: an older one never
// wins. Kept only where callers number the writes themselves, since a writer's own numbers come in order.
//
// Open addressing, linear probing, at most half full: 32 to 64 bytes an item. Not thread-safe: a lane's own.
// When not to use it: where items are forgotten, which it cannot.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/xxhash.h"

namespace embedcore::dualwrite {

class Versions {
 public:
  // True where sequence is as new as the newest of this item, which it then is. An equal one is let through:
  // it is the same write again, e.g. a repair.
  bool advance(std::int64_t id, std::uint64_t sequence) {
    if (2 * (used_ + 1) > cells_.size()) grow();
    Cell& cell = find(id);
    if (cell.sequence == 0) {
      ++used_;
    } else if (sequence < cell.sequence) {
      return false;
    }
    cell = {id, sequence};
    return true;
  }

 private:
  struct Cell {
    std::int64_t id = 0;
    std::uint64_t sequence = 0; // 0: free; sequence numbers count from 1
  };

  Cell& find(std::int64_t id) {
    std::size_t at = mix64(static_cast<std::uint64_t>(id)) & (cells_.size() - 1);
    while (cells_[at].sequence != 0 && cells_[at].id != id) at = (at + 1) & (cells_.size() - 1);
    return cells_[at];
  }

  void grow() {
    std::vector<Cell> old(std::max<std::size_t>(64, 2 * cells_.size()));
    old.swap(cells_);
    for (const Cell& cell : old) {
      if (cell.sequence != 0) find(cell.id) = cell;
    }
  }

  std::vector<Cell> cells_;
  std::size_t used_ = 0;
};

} // namespace embedcore::dualwrite
