// Growing and contracting the tree of protected links.
#include "hnsw/tree.h"

#include <algorithm>
#include <new>
#include <vector>

#include "hnsw/select.h"

namespace embedcore::hnsw {

namespace {

constexpr int tries = 8; // at one list that others change

} // namespace

std::uint32_t Tree::children(Slot slot) const {
  const Links links = storage_.links(slot, 0);
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = links.word(i);
    if (is_protected(word) && storage_.parent(target_of(word)) == slot) ++count;
  }
  return count;
}

Slot Tree::child_of(Slot slot) const {
  const Links links = storage_.links(slot, 0);
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = links.word(i);
    if (is_protected(word) && storage_.parent(target_of(word)) == slot) return target_of(word);
  }
  return no_slot;
}

float Tree::distance(Slot a, Slot b) const {
  static thread_local ProbeBuffer buffer;
  return Probe::between(space_, a, buffer).to(b);
}

bool Tree::protect(Slot from, Slot to, float alpha) const {
  const Links links = storage_.links(from, 0);
  for (int i = 0; i < tries; ++i) {
    if (protect_link(links, to) != Added::full) return true;
    bool raced = false;
    for (std::size_t place = 0; place < links.count; ++place) {
      const Word word = links.word(place);
      if (is_protected(word) || word == empty_word) continue;
      const State state = storage_.state(word);
      if (!is_leaving(state) && state != State::detached) continue;
      if (replace_link(links, place, word, protected_link(to))) return true;
      raced = true;
    }
    if (raced) continue;
    try {
      const Pruned pruned = prune_into(space_, links, from, protected_link(to), alpha);
      if (pruned != Pruned::raced) return pruned == Pruned::placed;
    } catch (const std::bad_alloc&) { // any link is as good then: the tree must not stay half changed
      if (protect_in_place(links, to)) return true;
    }
  }
  return false;
}

// In the place of the last unprotected link.
bool Tree::protect_in_place(const Links& links, Slot to) {
  for (std::size_t place = links.count; place-- > 0;) {
    const Word word = links.word(place);
    if (!is_protected(word)) return replace_link(links, place, word, protected_link(to));
  }
  return false;
}

// Pre-condition: nobody knows child yet.
bool Tree::hang_new(Slot child, Slot parent) const {
  // The way back first: from the moment at which the parent links to it, child's list is everybody's.
  const Links forward = storage_.links(child, 0);
  const std::size_t known = forward.find(parent);
  std::size_t place = known != forward.count ? known : forward.find(no_slot);
  if (place == forward.count) --place;
  const Word before = forward.word(place);
  forward.store(place, protected_link(parent));
  storage_.set_parent(child, parent);
  if (mutant("lost_link") || protect(parent, child, 1.0f)) return true;
  storage_.set_parent(child, no_slot);
  forward.store(place, before);
  return false;
}

void Tree::attach(Slot child, Slot otherwise) const {
  // Half of a list at most, so that pruning keeps room to work with.
  const Links forward = storage_.links(child, 0);
  const std::uint32_t most = forward.count / 2;
  Slot at = no_slot;
  for (std::size_t i = 0; i < forward.count; ++i) {
    const Slot parent = forward.load(i);
    if (parent == no_slot) continue;
    if (children(parent) < most && hang_new(child, parent)) return;
    if (at == no_slot) at = parent;
  }
  // Every neighbour is full of children. Going down the tree ends: below is a leaf.
  for (at = at == no_slot ? otherwise : at; children(at) >= most || !hang_new(child, at);) {
    if (const Slot below = child_of(at); below != no_slot) at = below;
  }
}

// One word of from's list that leads to old becomes desired. Pre-condition: other writers are excluded.
void Tree::exchange(Slot from, Slot old, Word desired) const {
  const Links links = storage_.links(from, 0);
  if (const std::size_t place = links.find(old); place != links.count) links.store(place, desired);
}

// child, whose parent was `leaving`, goes under host or below it.
void Tree::hang(Slot child, Slot host, Slot leaving) const {
  // The host's subtree does not hold child: going down it ends at a leaf, which has room.
  for (;; host = child_of(host)) {
    storage_.set_parent(child, host);
    if (protect(host, child, 1.2f)) break;
  }
  // In the place of the old parent, so that there is always one.
  const Links own = storage_.links(child, 0);
  const std::size_t known = own.find(host);
  exchange(child, known != own.count ? host : leaving, protected_link(host));
}

std::size_t Tree::contract(Slot node) const {
  struct Waiting {
    Slot child;
    Slot host;      // the nearest node that is in the tree already
    float distance; // to it
  };
  const Links links = storage_.links(node, 0);
  const Slot parent = storage_.parent(node);
  std::vector<Waiting> waiting;
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = links.word(i);
    const Slot to = target_of(word);
    if (!is_protected(word) || storage_.parent(to) != node) continue;
    waiting.push_back({to, parent, distance(parent == no_slot ? node : parent, to)});
  }
  // Before anything changes: memory may run out, and does no more from here on.
  const std::vector<Waiting> orphans = waiting;
  storage_.set_parent(node, no_slot);

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
      hang(next.child, next.host, node);
    }
    for (Waiting& w : waiting) {
      const float d = distance(next.child, w.child);
      if (w.host == no_slot || d < w.distance) {
        w.host = next.child;
        w.distance = d;
      }
    }
  }
  if (parent != no_slot) exchange(parent, node, empty_word);
  for (const Waiting& w : orphans) exchange(w.child, node, empty_word);
  return orphans.size();
}

void Tree::move(Slot old, Slot copy) const {
  const Slot parent = storage_.parent(copy);
  const Links links = storage_.links(copy, 0);
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = links.word(i);
    if (!is_protected(word)) continue;
    const Slot to = target_of(word);
    if (to != parent) storage_.set_parent(to, copy);
    exchange(to, old, protected_link(copy));
  }
}

} // namespace embedcore::hnsw
