// The tree of protected links: the reason why no node is ever unreachable.
//
// Pruning for diversity can take a node's last in-link. So each node has a parent on level 0, and the
// links parent -> node and node -> parent are never pruned. Together they are a spanning tree with links
// both ways: whatever node a walk starts from, every node of the graph can be reached.
//
// Invariants, whenever no writer is inside:
//   * exactly one node of the graph has no parent (the root), unless the graph is empty
//   * parent(x) = p means that both p -> x and x -> p are links on level 0
//   * following parents from any node ends at the root
// A node enters the tree (attach) before any other link leads to it, and leaves it (contract) by handing
// its children on.
#pragma once

#include <cstdint>
#include <vector>

#include "hnsw/link_locks.h"
#include "hnsw/probe.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

class Tree {
 public:
  Tree(Storage& storage, const Space& space) : storage_(storage), space_(space) {}

  // Whether the level-0 link from -> to belongs to the tree.
  [[nodiscard]] bool is_protected(Slot from, Slot to) const {
    return storage_.parent(to) == from || storage_.parent(from) == to;
  }

  // Hangs child under one of the slots that it links to on level 0 (nearest first), or below one of them
  // when all have m children. Thread-safe by the link locks.
  // Pre-conditions: child's forward links are complete, no link leads to it, it has at least one.
  void attach(Slot child, LinkLocks& locks) const;

  // Takes a detached node out: its children are hung under its parent or one another, nearest first. The
  // node keeps its own links for readers that stand on it; its parent and children no longer link to it.
  // Pre-condition: other writers are excluded. Every node stays reachable at every moment.
  void contract(Slot node) const;

  // Makes from -> to a link on level 0: in an empty place, in that of an unprotected detached node, or in
  // that of the one which selection drops. Pre-conditions: the caller is the only writer of from's list,
  // and either the link is protected and from has room, or nothing is promised: it may be dropped at once.
  void link(Slot from, Slot to, float alpha) const;

 private:
  [[nodiscard]] std::uint32_t children(Slot slot) const;
  [[nodiscard]] bool has_room(Slot slot) const; // for one more protected link
  void hang(Slot child, Slot host) const;
  void unlink(Slot from, Slot to) const;
  [[nodiscard]] float distance(Slot a, Slot b) const;

  Storage& storage_;
  const Space& space_;
};

} // namespace embedcore::hnsw
