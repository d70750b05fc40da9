// The tree of protected links: the reason why no node is ever unreachable.
//
// Pruning for diversity can take a node's last in-link. So each node has a parent on level 0, and the
// links parent -> node and node -> parent are never pruned. Together they are a spanning tree with links
// both ways: whatever node a walk starts from, every node of the graph can be reached. Each of them carries
// a mark in its word (link_list.h), so that nobody who drops links has to ask.
//
// Invariants, whenever no writer is inside:
//   * exactly one node of the graph has no parent (the root), unless the graph is empty
//   * parent(x) = p means that both p -> x and x -> p are protected links on level 0; no other link is
//   * following parents from any node ends at the root
// A node enters the tree (attach) before any other link leads to it, and leaves it (contract) by handing
// its children on.
//
// Progress: attach is lock-free: it fails at one parent only when that is full or others change its list, and
// then goes on to the next. contract and move need all writers excluded; readers go on meanwhile.
#pragma once

#include <cstdint>
#include <vector>

#include "hnsw/probe.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

class Tree {
 public:
  Tree(Storage& storage, const Space& space) : storage_(storage), space_(space) {}

  // Hangs child under one of the slots that it links to on level 0 (nearest first), or below the first of
  // them when all have m children; where it has no links, below `otherwise`. Any number of threads at once.
  // Pre-conditions: child's forward links are complete, no link leads to it; `otherwise` is in the tree.
  void attach(Slot child, Slot otherwise) const;

  // Takes a node out: its children are hung under its parent or one another, nearest first. The node keeps
  // its own links for readers that stand on it; its parent and children no longer link to it.
  // Pre-condition: other writers are excluded. Every node stays reachable at every moment. Returns how many
  // children it had. std::bad_alloc: nothing has changed.
  std::size_t contract(Slot node) const;

  // Puts copy, which has the same links and parent, into old's place in the tree.
  // Pre-condition: other writers are excluded.
  void move(Slot old, Slot copy) const;

 private:
  [[nodiscard]] std::uint32_t children(Slot slot) const;
  [[nodiscard]] Slot child_of(Slot slot) const; // the first; no_slot: it is a leaf
  // Makes from -> to a protected link: in an empty place, in that of a node which is leaving, or in that of
  // one which selection drops. False: no room, or others were faster. Does not throw.
  [[nodiscard]] bool protect(Slot from, Slot to, float alpha) const;
  [[nodiscard]] static bool protect_in_place(const Links& links, Slot to);
  [[nodiscard]] bool hang_new(Slot child, Slot parent) const;
  void hang(Slot child, Slot host, Slot leaving) const;
  void exchange(Slot from, Slot old, Word desired) const;
  [[nodiscard]] float distance(Slot a, Slot b) const;

  Storage& storage_;
  const Space& space_;
};

} // namespace embedcore::hnsw
