// The invariants of a graph, in few passes over memory.
#include "hnsw/snapshot_graph.h"

#include <algorithm>
#include <cstring>

namespace embedcore::hnsw {

bool SnapshotGraph::nodes() {
  const auto end = static_cast<Slot>(header_.slots);
  levels_.resize(end);
  parents_.resize(end);
  held_.resize(end / 64 + 1);
  for (Slot slot = 0; slot < end; ++slot) {
    if (!node(slot)) return false;
  }
  all_held_ = std::all_of(levels_.begin(), levels_.end(), [](std::uint8_t levels) { return levels != 0; });
  return runs_ == header_.runs && live_ == header_.live && entry();
}

bool SnapshotGraph::node(Slot slot) {
  snapshot::NodeRecord record{};
  std::memcpy(&record, x_.storage.nodes() + slot, sizeof(record));
  const auto state = static_cast<State>(record.state);
  parents_[slot] = record.parent;
  if (record.died != 0 || record.zero != 0) return false;
  if (state == State::live || state == State::tombstone) {
    live_ += state == State::live ? 1u : 0u;
    tombstones_ += state == State::tombstone ? 1u : 0u;
    if (record.id < 0 || record.level > max_level) return false;
    if (record.parent != no_slot && record.parent >= header_.slots) return false;
    if (record.upper != (record.level == 0 ? 0 : runs_)) return false;
    levels_[slot] = static_cast<std::uint8_t>(record.level + 1);
    held_[slot / 64] |= std::uint64_t{1} << (slot % 64);
    runs_ += record.level;
    return true;
  }
  if (state == State::free) free_.push_back(slot);
  detached_ += state == State::detached ? 1u : 0u;
  return (state == State::free || state == State::detached) && record.id == 0 && record.upper == 0 &&
         record.level == 0 && record.parent == no_slot && record.inverse_norm == 0;
}

bool SnapshotGraph::entry() const {
  if (header_.entry_slot == no_slot)
    return std::all_of(levels_.begin(), levels_.end(), [](std::uint8_t levels) { return levels == 0; });
  return header_.entry_slot < header_.slots && levels_[header_.entry_slot] == header_.entry_level + 1;
}

bool SnapshotGraph::links(Slot from, Slot to) {
  // Parents are looked up at random: asked for when a child is met, compared when all are.
  std::vector<Edge> down;
  down.reserve(2 * (to - from));
  for (Slot slot = from; slot < to; ++slot) {
    if (!base_links(slot, down) || !upper_links(slot)) return false;
  }
  for (const Edge& edge : down) {
    if (parents_[edge.child] != edge.parent) return false;
  }
  children_.fetch_add(down.size(), std::memory_order_relaxed);
  return true;
}

// Whether all links lead to nodes of the graph other than slot. There are dozens of millions of them: first
// what goes without looking anything up, which compilers make vector code of.
bool SnapshotGraph::in_range(Slot slot, const Links& links) const {
  // Signed, as the narrowest vector units compare; an empty word and its slot are the largest numbers of all.
  const auto last = static_cast<std::int32_t>(header_.slots) - 1;
  const auto own = static_cast<std::int32_t>(slot);
  const Word* words = links.at;
  const std::size_t count = links.count;
  std::int32_t outside = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto to = static_cast<std::int32_t>(words[i] & ~protected_bit);
    const std::int32_t beyond = (to > last ? 1 : 0) & (words[i] == empty_word ? 0 : 1);
    outside |= beyond | (to == own ? 1 : 0);
  }
  if (outside != 0) return false;
  if (all_held_) return true;
  std::uint64_t missing = 0;
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = links.at[i];
    if (word != empty_word) missing |= ~held(word & ~protected_bit);
  }
  return (missing & 1) == 0;
}

bool SnapshotGraph::base_links(Slot slot, std::vector<Edge>& down) const {
  const Links links = x_.storage.links(slot, 0);
  for (std::size_t i = links.count; i < x_.storage.link_places(); ++i) {
    if (links.at[i] != empty_word) return false;
  }
  if (levels_[slot] == 0)
    return std::all_of(links.at, links.at + links.count, [](Word word) { return word == empty_word; });
  if (!in_range(slot, links)) return false;
  const std::size_t first = down.size();
  std::size_t up = 0; // links to the parent
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = links.at[i];
    if (!is_protected(word)) continue;
    const Slot to = target_of(word);
    if (to == parents_[slot]) {
      ++up;
      continue;
    }
    const auto same = [to](const Edge& edge) { return edge.child == to; };
    if (std::any_of(down.begin() + static_cast<std::ptrdiff_t>(first), down.end(), same))
      return false; // twice
    __builtin_prefetch(&parents_[to], 0, 3);
    down.push_back({slot, to});
  }
  return up == (parents_[slot] == no_slot ? 0u : 1u);
}

bool SnapshotGraph::upper_links(Slot slot) const {
  for (std::uint32_t level = 1; level < levels_[slot]; ++level) {
    const Links links = x_.storage.links(slot, level);
    for (std::size_t i = 0; i < links.count; ++i) {
      const Word word = links.at[i];
      if (word == empty_word) continue;
      if (word >= header_.slots || levels_[word] <= level || word == slot) return false;
    }
  }
  return true;
}

// One root, every other node hung up once, and no circle: the way up from every node ends at the root.
bool SnapshotGraph::tree() const {
  const auto end = static_cast<Slot>(header_.slots);
  std::size_t roots = 0;
  std::size_t held = 0;
  std::vector<bool> rooted(end);
  std::vector<Slot> path;
  for (Slot slot = 0; slot < end; ++slot) {
    if (levels_[slot] == 0) continue;
    ++held;
    roots += parents_[slot] == no_slot ? 1u : 0u;
    path.clear();
    for (Slot at = slot; at != no_slot && !rooted[at]; at = parents_[at]) {
      if (path.size() > end) return false; // round and round
      path.push_back(at);
    }
    for (const Slot at : path) rooted[at] = true;
  }
  // No list names a child twice and each child has one parent, so as many links as children are all of them.
  return roots == (held == 0 ? 0u : 1u) && children_.load(std::memory_order_relaxed) == held - roots;
}

void SnapshotGraph::adopt() const {
  x_.storage.restore_free(free_);
  x_.live.store(live_);
  x_.tombstones.store(tombstones_ + detached_);
  x_.detached.store(detached_);
  x_.set_entry({header_.entry_slot, header_.entry_level});
}

} // namespace embedcore::hnsw
