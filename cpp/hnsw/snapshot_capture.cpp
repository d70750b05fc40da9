// The moment of a snapshot, and the links as of then.
#include "hnsw/snapshot_capture.h"

#include <algorithm>

namespace embedcore::hnsw {

Capture::Capture(Index::Impl& index) : x_(index), saving_(index), hold_(index.hold) {
  // Touched before, so that the system does not find memory for them while writers wait.
  states_.resize(x_.storage.end());
  parents_.resize(x_.storage.end());
  {
    const std::unique_lock alone(x_.gate);
    const Slot end = x_.storage.end();
    states_.resize(end);
    parents_.resize(end);
    for (Slot slot = 0; slot < end; ++slot) {
      states_[slot] = x_.storage.state(slot);
      parents_[slot] = x_.storage.parent(slot);
    }
    entry_ = x_.entry();
    stop_exponent_ = x_.stop_exponent.load();
    stop_floor_ = x_.stop_floor.load();
    const Glance::Limits& limits = x_.glance.limits();
    const auto n = static_cast<std::ptrdiff_t>(limits[0].slope == 0 ? 0 : Glance::count(x_.config.dim));
    part_limits_.assign(limits.begin(), limits.begin() + n);
    if (x_.coding != nullptr) codes_ = x_.coding->values();
  }
  sort_children();
}

State Capture::state(Slot slot) const {
  switch (states_[slot]) {
    case State::live:
    case State::detached: // counts as a tombstone until it is compacted
      return states_[slot];
    case State::tombstone:
    case State::leaving:
      return State::tombstone;
    case State::free:
    case State::pending: // there are none while writers are excluded
    case State::retired:
    case State::moved:
      break;
  }
  return State::free;
}

// By counting.
void Capture::sort_children() {
  first_child_.assign(states_.size() + 1, 0);
  const auto has_parent = [this](Slot slot) { return holds(slot) && parents_[slot] != no_slot; };
  for (Slot slot = 0; slot < end(); ++slot) {
    if (has_parent(slot)) ++first_child_[parents_[slot] + 1];
  }
  for (std::size_t i = 1; i < first_child_.size(); ++i) first_child_[i] += first_child_[i - 1];
  children_.resize(first_child_.back());
  std::vector<Slot> next(first_child_.begin(), first_child_.end() - 1);
  for (Slot slot = 0; slot < end(); ++slot) {
    if (has_parent(slot)) children_[next[parents_[slot]]++] = slot;
  }
}

bool Capture::of_tree(Slot slot, Slot to) const { return parents_[slot] == to || parents_[to] == slot; }

void Capture::links(Slot slot, std::uint32_t level, std::span<Word> words) const {
  const Links now = x_.storage.links(slot, level);
  const auto known = [&](std::size_t upto, Slot to) {
    return std::any_of(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(upto),
                       [to](Word word) { return target_of(word) == to; });
  };
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = empty_word;
    Slot to = now.load(i);
    if (to != no_slot && to < end() && states_[to] == State::moved) to = parents_[to];
    if (to == no_slot || to == slot || !holds(to) || x_.storage.node(to).level < level || known(i, to))
      continue;
    words[i] = level == 0 && of_tree(slot, to) ? protected_link(to) : to;
  }
  if (level == 0 && !mutant("tree_not_restored")) restore_tree(slot, words);
}

// What the tree lacks goes to an empty place, or to that of the last link which is none of the tree's.
void Capture::restore_tree(Slot slot, std::span<Word> words) const {
  const auto require = [words](Slot to) {
    const Word word = protected_link(to);
    if (std::find(words.begin(), words.end(), word) != words.end()) return;
    auto place = std::find(words.begin(), words.end(), empty_word);
    if (place == words.end()) {
      const auto last = std::find_if_not(words.rbegin(), words.rend(), is_protected);
      if (last == words.rend()) return; // cannot be: they were in one list together
      place = std::prev(last.base());
    }
    *place = word;
  };
  if (parents_[slot] != no_slot) require(parents_[slot]);
  for (Slot i = first_child_[slot]; i < first_child_[slot + 1]; ++i) require(children_[i]);
}

} // namespace embedcore::hnsw
