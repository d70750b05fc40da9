// From what a walk met to what a search returns: ranked by the originals, visible now, every id once.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t rerank_step = 4;  // candidates whose originals are read at a time
constexpr std::size_t least_share = 16; // of what a walk kept one in so many is read, whatever is in doubt

// What is found beyond so many times k is late; at least a quarter of what was read counts as late, and half
// at most. Less of a narrow walk, which is wanted cheap: there one late find is no rare chance.
constexpr std::size_t early = 6;

// Of the errors seen in a search. Seen are those of what measures near, which are lower than others; over
// many dimensions errors even out, and that matters little.
constexpr float deviations_of(std::size_t dim) { return dim < 128 ? 5.0f : 3.5f; }

// By how much the measured distances of this search lay above the exact ones so far. What is known of the
// codes on average (Probe::doubt) is too little in a tight cluster, whose members are rounded alike: without
// this recall there ends at 0.98 however large ef is.
class Errors {
 public:
  explicit Errors(float deviations) : deviations_(deviations) {}
  void add(float error) {
    ++count_;
    sum_ += error;
    squares_ += error * error;
  }
  // Pre-condition: there was one.
  [[nodiscard]] float doubt() const {
    const auto n = static_cast<float>(count_);
    const float mean = sum_ / n;
    return mean + deviations_ * std::sqrt(std::max(0.0f, squares_ / n - mean * mean));
  }

 private:
  const float deviations_;
  std::size_t count_ = 0;
  float sum_ = 0;
  float squares_ = 0;
};

} // namespace

// The nearest k of a walk's candidates that are alive, and some more, into scratch.best, sorted. Tombstones
// made since the search began go to scratch.died. False: measured distances do not tell what is near. What
// the walk did not keep is in doubt, and some of the nearest k were in the last part of what was read.
bool Index::Impl::rerank(const Probe& walking, const Probe& exact, bool coded, std::uint64_t since,
                         std::size_t k, Scratch& scratch) const {
  const Walk& walk = scratch.walk;
  auto& best = scratch.best;
  auto& fresh = scratch.fresh;
  best.clear();
  const bool every_live = all_live();
  const auto ask = [&](std::size_t i) {
    __builtin_prefetch(&storage.node(walk.slots[i]), 0, 3);
    if (coded) exact.prefetch_alone(walk.slots[i]);
  };
  const auto ask_first = [&](std::size_t n) {
    for (std::size_t i = 0; i < std::min(n, walk.size); ++i) ask(i);
  };
  const auto alive = [&](Slot slot) {
    if (every_live) return true;
    const State state = storage.state(slot);
    if (state == State::live || state == State::pending) return true;
    // A moved node may have been retired since: its item is elsewhere all the same.
    const bool elsewhere = state == State::moved || state == State::retired || storage.died(slot) > since;
    if (elsewhere) scratch.died.push_back(slot);
    return false;
  };
  if (!coded) {
    ask_first(k);
    for (std::size_t i = 0; i < walk.size && best.size() < k; ++i) {
      if (alive(walk.slots[i])) best.push_back({walk.distances[i], walk.slots[i]});
    }
    return true;
  }
  ask_first(k + rerank_step);
  float bound = std::numeric_limits<float>::infinity(); // the k-th nearest by the originals
  std::array<float, rerank_step> measures{};
  std::array<float, rerank_step> distances{};
  Errors errors(deviations_of(config.dim));
  // Whether what measures so may be one of the k nearest.
  const auto in_doubt = [&](float measured) {
    return best.size() < k || !(measured - std::max(walking.doubt(measured), errors.doubt()) > bound);
  };
  const std::size_t least = walk.size / least_share;
  std::size_t at = 0;
  while (at < walk.size && (at < least || in_doubt(walk.distances[at]))) {
    const std::size_t ahead = std::min(at + 2 * rerank_step, walk.size);
    for (std::size_t i = at + rerank_step; i < ahead && in_doubt(walk.distances[i]); ++i) ask(i);
    fresh.clear();
    for (; at < walk.size && fresh.size() < rerank_step; ++at) {
      if (!alive(walk.slots[at])) continue;
      measures[fresh.size()] = walk.distances[at];
      fresh.push_back(walk.slots[at]);
    }
    exact.to(fresh.data(), fresh.size(), distances.data());
    scratch.computed += fresh.size();
    for (std::size_t i = 0; i < fresh.size(); ++i) {
      errors.add(measures[i] - distances[i]);
      // Not a number only where a mapped vector is damaged and that is not found yet: no order for sorting.
      if (!(distances[i] <= std::numeric_limits<float>::max()))
        distances[i] = std::numeric_limits<float>::max();
      if (best.size() < k || distances[i] <= bound) best.push_back({distances[i], fresh[i]});
    }
    if (best.size() < k) continue;
    const auto kth = best.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(best.begin(), kth, best.end(), nearer);
    bound = kth->distance;
  }
  std::sort(best.begin(), best.end(), nearer);
  if (best.size() < k || at <= 2 * k || !in_doubt(walk.edge)) return true;
  const std::size_t from = std::clamp(early * k, at / 2, at - at / 4);
  const std::span<const Slot> late{walk.slots + from, walk.slots + at};
  return std::none_of(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(k), [&](const Candidate& c) {
    return std::find(late.begin(), late.end(), c.slot) != late.end();
  });
}

void Index::Impl::resolve(const Probe& exact, std::uint64_t ended_at_start, std::size_t limit,
                          const IdFilter* filter, std::span<const Candidate> candidates,
                          Scratch& scratch) const {
  auto& found = scratch.found;
  found.clear();
  bool plain = scratch.died.empty();
  for (const Candidate& c : candidates) {
    if (!plain || found.size() == limit) break;
    const State state = storage.state(c.slot);
    if (state == State::live) found.push_back(c);
    if (state != State::live) plain = false; // its item may be visible elsewhere
  }
  if (plain && begun.load(std::memory_order_acquire) == ended_at_start) return;

  // Changes went on meanwhile. The table says where each item is now; an item that moved during this
  // search is found through its old slot as well as through its new one, and returned once.
  found.clear();
  for (const Candidate& c : candidates) {
    const Slot now = table->find(storage.node(c.slot).id);
    if (now != no_slot) found.push_back({now == c.slot ? c.distance : exact.to(now), now});
  }
  for (const Slot slot : scratch.died) {
    const std::int64_t id = storage.node(slot).id;
    if (filter != nullptr && !filter->allows(id)) continue;
    if (const Slot now = table->find(id); now != no_slot) found.push_back({exact.to(now), now});
  }
  std::sort(found.begin(), found.end(), [this](const Candidate& a, const Candidate& b) {
    const std::int64_t x = storage.node(a.slot).id;
    const std::int64_t y = storage.node(b.slot).id;
    return x < y || (x == y && a.slot < b.slot);
  });
  const auto same = [this](const Candidate& a, const Candidate& b) {
    return storage.node(a.slot).id == storage.node(b.slot).id;
  };
  found.erase(std::unique(found.begin(), found.end(), same), found.end());
  std::sort(found.begin(), found.end(), nearer);
  if (found.size() > limit) found.resize(limit);
}

void Index::Impl::score_list(const Probe& exact, std::span<const std::int64_t> listed, std::size_t limit,
                             Scratch& scratch) const {
  auto& found = scratch.found;
  auto& fresh = scratch.fresh;
  found.clear();
  fresh.clear();
  const auto flush = [&] {
    if (scratch.distances.size() < fresh.size()) scratch.distances.resize(fresh.size());
    exact.to(fresh.data(), fresh.size(), scratch.distances.data());
    for (std::size_t i = 0; i < fresh.size(); ++i) found.push_back({scratch.distances[i], fresh[i]});
    fresh.clear();
  };
  for (const std::int64_t id : listed) {
    const Slot slot = table->find(id);
    if (slot == no_slot) continue;
    exact.prefetch(slot);
    fresh.push_back(slot);
    if (fresh.size() == 64) flush();
  }
  flush();
  scratch.computed += found.size();
  const std::size_t kept = std::min(limit, found.size());
  std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(kept), found.end(), nearer);
  found.resize(kept);
}

} // namespace embedcore::hnsw
