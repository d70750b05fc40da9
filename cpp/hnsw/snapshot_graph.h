// Whether nodes and links that came from a file make a graph that an index can have: every reference leads to
// a node of the graph, on levels that it has, and the links of the tree (tree.h) span it. What walks and
// upkeep rely on without asking.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "hnsw/impl.h"
#include "hnsw/snapshot.h"

namespace embedcore::hnsw {

class SnapshotGraph {
 public:
  // The storage has the file's nodes, upper links and blocks.
  SnapshotGraph(Index::Impl& index, const snapshot::Header& header) : x_(index), header_(header) {}

  // In this order. Each says whether all is well.
  [[nodiscard]] bool nodes();
  [[nodiscard]] bool links(Slot from, Slot to); // of these slots; several threads at once, each slot once
  [[nodiscard]] bool tree() const;              // after the links of all slots
  // Pre-condition: all is well. Counts, free slots and the entry become the index's.
  void adopt() const;

 private:
  struct Edge { // of the tree
    Slot parent, child;
  };
  [[nodiscard]] bool node(Slot slot);
  [[nodiscard]] bool base_links(Slot slot, std::vector<Edge>& down) const;
  [[nodiscard]] bool in_range(Slot slot, const Links& links) const;
  [[nodiscard]] bool upper_links(Slot slot) const;
  [[nodiscard]] bool entry() const;
  [[nodiscard]] std::uint64_t held(Slot slot) const { return held_[slot / 64] >> (slot % 64) & 1; }

  Index::Impl& x_;
  const snapshot::Header& header_;
  std::uint64_t runs_ = 0;
  std::uint64_t live_ = 0;
  std::size_t tombstones_ = 0;
  std::size_t detached_ = 0;
  std::vector<Slot> free_;
  // Copies, close together: links are checked against them at random.
  std::vector<std::uint8_t> levels_; // levels of a node of the graph, 0 to its top: top + 1; else 0
  std::vector<std::uint64_t> held_;  // a bit for each node of the graph: small enough for a near cache
  bool all_held_ = false;
  std::vector<Slot> parents_;
  std::atomic<std::size_t> children_{0}; // links to them, of all lists
};

} // namespace embedcore::hnsw
