// Growing and contracting the tree of protected links.
#include "hnsw/tree.h"

#include <algorithm>
#include <vector>

#include "hnsw/select.h"

namespace embedcore::hnsw {

std::uint32_t Tree::children(Slot slot) const {
  const Links links = storage_.links(slot, 0);
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < links.count; ++i) {
    const Slot to = links.load(i);
    if (to != no_slot && storage_.parent(to) == slot) ++count;
  }
  return count;
}

bool Tree::has_room(Slot slot) const {
  const Links links = storage_.links(slot, 0);
  for (std::size_t i = 0; i < links.count; ++i) {
    const Slot to = links.load(i);
    if (to == no_slot || !is_protected(slot, to)) return true;
  }
  return false;
}

float Tree::distance(Slot a, Slot b) const {
  ProbeBuffer buffer;
  return Probe::between(space_, a, buffer).to(b);
}

void Tree::link(Slot from, Slot to, float alpha) const {
  const Links links = storage_.links(from, 0);
  if (links.find(to) != links.count) return;
  std::size_t place = links.find(no_slot);
  for (std::size_t i = 0; i < links.count && place == links.count; ++i) {
    const Slot there = links.load(i);
    if (storage_.state(there) == State::detached && !is_protected(from, there)) place = i;
  }
  if (place != links.count) {
    links.store(place, to);
    return;
  }
  ProbeBuffer buffer;
  std::vector<Candidate> candidates;
  const Probe probe = Probe::between(space_, from, buffer);
  for (std::size_t i = 0; i < links.count; ++i)
    candidates.push_back({probe.to(links.load(i)), links.load(i)});
  candidates.push_back({probe.to(to), to});
  std::sort(candidates.begin(), candidates.end(), nearer);
  std::vector<Candidate> chosen;
  select_neighbours(space_, *this, candidates, {links.count, alpha, from}, chosen);
  rewrite(links, chosen);
}

void Tree::unlink(Slot from, Slot to) const {
  const Links links = storage_.links(from, 0);
  if (const std::size_t place = links.find(to); place != links.count) links.store(place, no_slot);
}

void Tree::attach(Slot child, LinkLocks& locks) const {
  // Half of a list at most, so that pruning keeps room to work with.
  const Links forward = storage_.links(child, 0);
  const std::uint32_t most = forward.count / 2;
  const auto try_parent = [&](Slot parent) {
    const auto lock = locks.of(parent);
    if (children(parent) >= most) return false;
    // The way back first: nobody else writes child's list until its parent links to it.
    if (forward.find(parent) == forward.count) {
      const std::size_t empty = forward.find(no_slot);
      forward.store(empty != forward.count ? empty : forward.count - 1, parent);
    }
    storage_.set_parent(child, parent);
    link(parent, child, 1.0f);
    return true;
  };
  Slot at = no_slot;
  for (std::size_t i = 0; i < forward.count; ++i) {
    const Slot parent = forward.load(i);
    if (parent == no_slot) continue;
    if (try_parent(parent)) return;
    if (at == no_slot) at = parent;
  }
  // Every neighbour is full of children. Going down the tree ends: below is a leaf.
  for (;;) {
    const Links links = storage_.links(at, 0);
    for (std::size_t i = 0; i < links.count; ++i) {
      const Slot to = links.load(i);
      if (to == no_slot || storage_.parent(to) != at) continue;
      at = to;
      break;
    }
    if (try_parent(at)) return;
  }
}

void Tree::hang(Slot child, Slot host) const {
  // The host's subtree does not hold child: going down it ends at a leaf, which has room.
  while (!has_room(host)) {
    const Links links = storage_.links(host, 0);
    for (std::size_t i = 0; i < links.count; ++i) {
      const Slot to = links.load(i);
      if (to == no_slot || storage_.parent(to) != host) continue;
      host = to;
      break;
    }
  }
  storage_.set_parent(child, host);
  link(host, child, 1.2f);
  link(child, host, 1.2f);
}

void Tree::contract(Slot node) const {
  struct Waiting {
    Slot child;
    Slot host;      // the nearest node that is in the tree already
    float distance; // to it
  };
  const Links links = storage_.links(node, 0);
  const Slot parent = storage_.parent(node);
  std::vector<Waiting> waiting;
  for (std::size_t i = 0; i < links.count; ++i) {
    const Slot to = links.load(i);
    if (to == no_slot || storage_.parent(to) != node) continue;
    waiting.push_back({to, parent, distance(parent == no_slot ? node : parent, to)});
  }
  storage_.set_parent(node, no_slot);
  const std::vector<Waiting> orphans = waiting;

  // Prim's algorithm from the parent over the children. The root's nearest child becomes the root.
  while (!waiting.empty()) {
    const auto pick =
        std::min_element(waiting.begin(), waiting.end(),
                         [](const Waiting& a, const Waiting& b) { return a.distance < b.distance; });
    const Waiting next = *pick;
    waiting.erase(pick);
    if (next.host == no_slot) {
      storage_.set_parent(next.child, no_slot);
    } else {
      hang(next.child, next.host);
    }
    for (Waiting& w : waiting) {
      const float d = distance(next.child, w.child);
      if (w.host == no_slot || d < w.distance) {
        w.host = next.child;
        w.distance = d;
      }
    }
  }
  if (parent != no_slot) unlink(parent, node);
  for (const Waiting& w : orphans) unlink(w.child, node);
}

} // namespace embedcore::hnsw
