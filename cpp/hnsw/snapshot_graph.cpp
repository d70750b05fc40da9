// The invariants of a graph, in few passes over memory.
#include "hnsw/snapshot_graph.h"

#include <algorithm>
#include <cstring>

namespace embedcore::hnsw {

bool SnapshotGraph::nodes() {
  const auto end = static_cast<Slot>(header_.slots);
  levels_.resize(end);
  parents_.resize(end);
  hung_.resize(end);
  for (Slot slot = 0; slot < end; ++slot) {
    if (!node(slot)) return false;
  }
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
  for (Slot slot = from; slot < to; ++slot) {
    if (!base_links(slot) || !upper_links(slot)) return false;
  }
  return true;
}

bool SnapshotGraph::base_links(Slot slot) {
  const Links links = x_.storage.links(slot, 0);
  const bool held = levels_[slot] != 0;
  bool sound = true;
  std::uint32_t up = 0; // links to the parent
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = links.at[i];
    if (word == empty_word) continue;
    const Slot to = target_of(word);
    if (!held || to >= header_.slots || levels_[to] == 0 || to == slot) return false;
    if (!is_protected(word)) continue;
    if (parents_[slot] == to) {
      ++up;
    } else {
      sound = sound && parents_[to] == slot && hung_[to] == 0;
      hung_[to] = 1;
    }
    if (!sound) return false;
  }
  for (std::size_t i = links.count; i < x_.storage.link_places(); ++i)
    sound = sound && links.at[i] == empty_word;
  return sound && up == (parents_[slot] == no_slot ? 0u : 1u);
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
    if (parents_[slot] != no_slot && hung_[slot] == 0) return false;
    path.clear();
    for (Slot at = slot; at != no_slot && !rooted[at]; at = parents_[at]) {
      if (path.size() > end) return false; // round and round
      path.push_back(at);
    }
    for (const Slot at : path) rooted[at] = true;
  }
  return roots == (held == 0 ? 0u : 1u);
}

void SnapshotGraph::adopt() const {
  x_.storage.restore_free(free_);
  x_.live.store(live_);
  x_.tombstones.store(tombstones_ + detached_);
  x_.detached.store(detached_);
  x_.set_entry({header_.entry_slot, header_.entry_level});
}

} // namespace embedcore::hnsw
