// One query on its way through the index: begun, walked by a kernel, finished. For search.cpp,
// search_many.cpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

using Clock = std::chrono::steady_clock;

inline std::uint64_t since_ns(Clock::time_point started) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - started).count());
}

// Walks expand several nodes a step, so that more lines are on their way at once, for which they compute a
// few distances too many: the narrower the search, the larger the share of those, and the longer the rows,
// the more they cost.
inline std::size_t beam_for(std::size_t ef, bool coded, std::size_t row_lines) {
  if (ef < (coded ? 24u : 64u)) return 2;
  return coded && row_lines <= 2 ? 4 : 3;
}

// Originals beyond the k-th that are nearly always read in the end.
constexpr std::size_t rerank_margin = 6;

// Where the early stop is calibrated it ends a walk at a breadth of ef in a place of ordinary density, and
// the queue is so many times as long for the others.
constexpr double reserve = 1.75;

// Whoever asks for more than such a share of all items is after recall: there is no early stop.
constexpr double narrow = 0.25;

// The early stop looks at the distance of the k-th nearest, which of very few says little.
constexpr std::size_t fewest_ranked = 10;

struct Index::Impl::Search {
  Search(const Impl& index, const float* vector, const Codec* coding)
      : impl(index),
        ended(index.ended.load(std::memory_order_acquire)),
        since(index.seen_switches(ended)),
        from(index.entry()),
        lease(index.scratches),
        codec(coding),
        unit(unit_length(index.space, vector, lease->query)),
        exact(Probe::exact(index.space, unit)) {}
  // Whether walks measure something else than what is returned.
  [[nodiscard]] bool coded() const { return codec != nullptr || impl.space.lean; }
  const Probe& walking() {
    if (!ready) probe = coded() ? Probe::walking(impl.space, codec, unit, lease->walking) : exact;
    ready = true;
    return probe;
  }
  // Everything up to the kernel's loop. Pre-condition: the index was not empty.
  void begin(std::size_t k, std::size_t ef) {
    const std::size_t end = impl.storage.end();
    // Tombstones take places in the queue, so it is made as much longer.
    const double live = static_cast<double>(std::max<std::size_t>(1, impl.live.load()));
    const double all = live + static_cast<double>(impl.tombstones.load() + impl.moved.load());
    const auto grown = [&](std::size_t n) {
      return std::min(end, static_cast<std::size_t>(std::ceil(static_cast<double>(n) * all / live)));
    };
    const double longest = reserve * static_cast<double>(ef);
    ef = std::max(ef, impl.least_breadth(k, codec));
    breadth = Breadth{grown(ef)};
    breadth.beam = beam_for(ef, coded(), walking().row_lines());
    const float exponent = impl.stop_exponent.load(std::memory_order_relaxed);
    const std::size_t rank = std::max(k, fewest_ranked);
    if (exponent > 0 && ef > rank && static_cast<double>(ef) < narrow * live) {
      breadth.floor = impl.stop_floor.load(std::memory_order_relaxed);
      breadth.capacity = grown(std::max(ef, static_cast<std::size_t>(longest)));
      breadth.rank = grown(rank);
      breadth.stretch = std::pow(static_cast<float>(ef) / static_cast<float>(rank), exponent);
      breadth.slack = walking().doubt(0);
    }
    const Candidate start = impl.approach(walking(), from, 0, *lease);
    begin_walk(impl.storage, walking(), breadth, *lease);
    start_at(start, *lease);
    if (coded()) {
      exact.ask_while_walking(k + rerank_margin, lease->walk);
    } else {
      const std::size_t value = impl.space.original_form == Form::f32 ? 4 : 2;
      impl.glance.lend(*impl.kernels, unit, impl.config.dim, value, lease->walk);
    }
  }
  void finish(std::size_t k) {
    end_walk(*lease);
    if (!impl.rerank(walking(), exact, coded(), since, k, *lease)) walk_originals(k);
    impl.resolve(exact, ended, k, nullptr, lease->best, *lease);
  }
  // Once more, by the originals, where codes do not tell what is near: in a small dense place whose members
  // are closer together than the grid, or where there are few dimensions for their errors to even out.
  void walk_originals(std::size_t k) {
    breadth.slack = 0;
    lease->died.clear();
    begin_walk(impl.storage, exact, breadth, *lease);
    start_at(impl.approach(exact, from, 0, *lease), *lease);
    Walk* walk = &lease->walk;
    exact.walk()(&walk, 1);
    end_walk(*lease);
    impl.rerank(exact, exact, false, since, k, *lease);
  }
  std::size_t write(std::int64_t* ids, float* distances, SearchStats* stats) const {
    if (stats != nullptr) *stats = {lease->hops, lease->computed, 0};
    const auto& found = lease->found;
    for (std::size_t i = 0; i < found.size(); ++i) {
      ids[i] = impl.storage.node(found[i].slot).id;
      distances[i] = found[i].distance;
    }
    return found.size();
  }

  const Impl& impl;
  const std::uint64_t ended; // switches, before anything of the graph
  const std::uint64_t since; // what tombstones of then have noted at most
  const Entry from;
  const ScratchPool::Lease lease;
  const Codec* const codec; // loaded under the caller's pin
  const float* const unit;
  const Probe exact;
  Probe probe;
  Breadth breadth;
  bool ready = false;
};

} // namespace embedcore::hnsw
