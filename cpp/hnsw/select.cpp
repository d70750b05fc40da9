// Neighbour selection. Distances between candidates are the cost: at most limit for each candidate.
#include "hnsw/select.h"

#include <algorithm>
#include <array>

namespace embedcore::hnsw {

void select_neighbours(const Space& space, std::span<const Candidate> candidates, const Selection& selection,
                       std::vector<Candidate>& chosen) {
  // Kept between calls, so that nothing is allocated.
  static thread_local ProbeBuffer buffer;
  static thread_local std::vector<Slot> slots; // of the chosen
  static thread_local std::vector<Candidate> pruned;
  slots.clear();
  pruned.clear();
  chosen.clear();
  const auto choose = [&](const Candidate& c) {
    chosen.push_back(c);
    slots.push_back(c.slot);
  };
  for (const Candidate& c : selection.kept) choose(c);
  const auto forced = [&](const Candidate& c) {
    return std::find(selection.forced.begin(), selection.forced.end(), c.slot) != selection.forced.end();
  };
  std::size_t reserved = selection.forced.size(); // places for forced candidates not yet met
  // A negative distance (inner product) times alpha would prune more, not less.
  const auto covers = [&](float between, float distance) {
    return (between > 0 ? selection.alpha * between : between) < distance;
  };

  // Four at a time where kernels take four codes at once; of originals each costs its own cache lines.
  const std::size_t step = space.codec.load(std::memory_order_acquire) != nullptr || space.lean ? 4 : 1;
  const auto is_covered = [&](const Candidate& c) {
    if (slots.empty()) return false;
    const Probe own = Probe::between(space, c.slot, buffer);
    std::array<float, 4> between{};
    for (std::size_t i = 0; i < slots.size(); i += step) {
      const std::size_t n = std::min(step, slots.size() - i);
      own.to(slots.data() + i, n, between.data());
      for (std::size_t j = 0; j < n; ++j) {
        if (covers(between[j], c.distance)) return true;
      }
    }
    return false;
  };

  for (const Candidate& c : candidates) {
    if (forced(c)) {
      --reserved;
      choose(c);
      continue;
    }
    if (chosen.size() + reserved >= selection.limit) continue;
    const bool covered = is_covered(c);
    if (covered) {
      pruned.push_back(c);
    } else {
      choose(c);
    }
  }
  // Half as many again: on text it makes no difference whether lists are filled up or not, on tight clusters
  // full lists leave no room for the links between clusters that come later.
  const std::size_t filled = std::min(selection.limit, chosen.size() + chosen.size() / 2);
  for (const Candidate& c : pruned) {
    if (chosen.size() >= filled) break;
    chosen.push_back(c);
  }
}

Pruned prune_into(const Space& space, Links links, Slot from, Word desired, float alpha) {
  struct Buffers {
    std::vector<Word> words;
    std::vector<Slot> slots, forced;
    std::vector<float> distances;
    std::vector<Candidate> candidates, chosen;
    ProbeBuffer probe;
  };
  static thread_local Buffers b; // kept between calls, so that nothing is allocated
  b.words.clear();
  b.slots.assign(1, target_of(desired));
  b.forced.clear();
  if (is_protected(desired)) b.forced.push_back(target_of(desired));
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = links.word(i);
    b.words.push_back(word);
    if (word == empty_word) continue;
    if (target_of(word) == target_of(desired)) return Pruned::raced;
    b.slots.push_back(target_of(word));
    if (is_protected(word)) b.forced.push_back(target_of(word));
  }
  if (b.forced.size() > links.count) return Pruned::refused;

  const Probe own = Probe::between(space, from, b.probe);
  for (const Slot slot : b.slots) own.prefetch(slot);
  b.distances.resize(b.slots.size());
  own.to(b.slots.data(), b.slots.size(), b.distances.data());
  b.candidates.clear();
  for (std::size_t i = 0; i < b.slots.size(); ++i) b.candidates.push_back({b.distances[i], b.slots[i]});
  std::sort(b.candidates.begin(), b.candidates.end(), nearer);
  select_neighbours(space, b.candidates, {links.count, alpha, b.forced}, b.chosen);

  const auto wanted = [](Slot slot) {
    return std::any_of(b.chosen.begin(), b.chosen.end(),
                       [slot](const Candidate& c) { return c.slot == slot; });
  };
  bool to_place = wanted(target_of(desired));
  Pruned result = Pruned::refused;
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = b.words[i];
    if (word == empty_word ? !to_place : is_protected(word) || wanted(word)) continue;
    if (to_place) {
      if (!replace_link(links, i, word, desired)) return Pruned::raced;
      to_place = false;
      result = Pruned::placed;
    } else {
      replace_link(links, i, word, empty_word); // where it fails, another thread has dropped it
    }
  }
  return to_place ? Pruned::raced : result;
}

} // namespace embedcore::hnsw
