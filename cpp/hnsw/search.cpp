// Reading: search, range search, scores. No lock anywhere; an epoch guard keeps what is reached alive.
//
// A search walks on what walks read, then ranks the best of what it met by the originals: as many as the
// error of the codes leaves in doubt (Probe::doubt), so that recall is never held down by a fixed number of
// them.
#include <algorithm>
#include <limits>

#include "hnsw/search_state.h"

namespace embedcore::hnsw {

namespace {

// Scoring a list costs its length; a filtered walk costs about ef / selectivity nodes, each with some
// neighbours: with selectivity = listed / live, the list is cheaper while listed^2 < 8 ef live.
bool list_is_cheaper(std::size_t listed, std::size_t ef, std::size_t live) {
  const auto length = static_cast<double>(listed);
  return length <= 128 || length * length <= 8.0 * static_cast<double>(ef) * static_cast<double>(live);
}

} // namespace

// With codes the k best of a walk are not the k nearest: it has to bring some more.
std::size_t Index::Impl::least_breadth(std::size_t k, const Codec* codec) const {
  if (codec == nullptr) return space.lean ? k + 2 : k;
  return codec->form() == Form::u4 ? k + k / 2 + 4 : k + k / 8 + 4;
}

Candidate Index::Impl::approach(const Probe& probe, Entry from, std::uint32_t level, Scratch& scratch) const {
  const Candidate at{probe.to(from.slot), from.slot};
  ++scratch.computed;
  return descend(storage, probe, at, from.level, level, scratch);
}

// Walks that skip nodes at result time: filters, and indexes that are mostly tombstones.
void Index::Impl::search_admitted(Search& search, std::size_t k, std::size_t ef,
                                  const IdFilter* filter) const {
  Scratch& scratch = *search.lease;
  const auto listed = filter == nullptr ? std::span<const std::int64_t>{} : filter->listed();
  if (!listed.empty() && list_is_cheaper(listed.size(), ef, live.load(std::memory_order_relaxed))) {
    score_list(search.exact, listed, k, scratch);
    return;
  }
  // By the originals where only asking tells what is allowed: that may lie far from the query, where codes
  // are too coarse to find the way.
  const bool by_originals = filter != nullptr && listed.empty();
  const Probe& probe = by_originals ? search.exact : search.walking();
  ef = std::max(ef, least_breadth(k, search.codec));
  walk_admitted(storage, probe, approach(probe, search.from, 0, scratch), ef, {filter, search.since},
                scratch);
  if (search.coded() && !by_originals) { // all of them: what a filter left is little
    for (const Candidate& c : scratch.best) search.exact.prefetch(c.slot);
    for (Candidate& c : scratch.best) c.distance = search.exact.to(c.slot);
    std::sort(scratch.best.begin(), scratch.best.end(), nearer);
  }
  resolve(search.exact, search.ended, k, filter, scratch.best, scratch);
  // Allowed items far from the query can lie outside what the walk reached.
  if (scratch.found.size() < std::min(k, listed.size())) score_list(search.exact, listed, k, scratch);
}

std::size_t Index::Impl::search(const float* query, std::size_t k, std::size_t ef, const IdFilter* filter,
                                std::int64_t* ids, float* distances, SearchStats* stats) const {
  const auto started = stats == nullptr ? Clock::time_point{} : Clock::now();
  const Pin pin(*this);
  Search search(*this, query, space.codec.load(std::memory_order_acquire));
  if (k == 0 || search.from.empty()) return 0;
  ef = std::min(std::max(ef, k), static_cast<std::size_t>(storage.end()));
  const auto answer = [&] {
    const std::size_t n = search.write(ids, distances, stats);
    if (stats != nullptr) stats->nanoseconds = since_ns(started);
    return n;
  };
  if (filter != nullptr || mostly_dead()) {
    search_admitted(search, k, ef, filter);
    return answer();
  }
  search.begin(k, ef);
  Walk* walk = &search.lease->walk;
  search.walking().walk()(&walk, 1);
  search.finish(k);
  if (search.lease->found.size() < std::min(k, live.load(std::memory_order_relaxed)))
    search_admitted(search, k, ef, nullptr); // tombstones crowded around the query
  return answer();
}

void Index::Impl::range_search(const float* query, float radius, std::size_t ef, const IdFilter* filter,
                               std::vector<std::int64_t>& ids, std::vector<float>& distances) const {
  ids.clear();
  distances.clear();
  const Pin pin(*this);
  Search search(*this, query, space.codec.load(std::memory_order_acquire));
  if (search.from.empty()) return;
  Scratch& scratch = *search.lease;
  const std::size_t end = storage.end();
  const auto listed = filter == nullptr ? std::span<const std::int64_t>{} : filter->listed();
  ef = std::clamp<std::size_t>(ef, 1, end);
  if (!listed.empty() && list_is_cheaper(listed.size(), ef, live.load(std::memory_order_relaxed))) {
    score_list(search.exact, listed, listed.size(), scratch);
  } else {
    // On the originals: how much lies within a radius is not a matter of rank, which codes keep, but of
    // distance, which they blur.
    walk_admitted(storage, search.exact, approach(search.exact, search.from, 0, scratch), ef,
                  {filter, search.since, radius}, scratch);
    resolve(search.exact, search.ended, scratch.best.size() + scratch.died.size(), filter, scratch.best,
            scratch);
  }
  for (const Candidate& c : scratch.found) {
    if (c.distance > radius) break;
    ids.push_back(storage.node(c.slot).id);
    distances.push_back(c.distance);
  }
}

void Index::Impl::scores(const float* query, std::span<const std::int64_t> ids, float* distances) const {
  const Pin pin(*this);
  const Search search(*this, query, nullptr);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const Slot slot = table->find(ids[i]);
    distances[i] = slot == no_slot ? std::numeric_limits<float>::quiet_NaN() : search.exact.to(slot);
  }
}

} // namespace embedcore::hnsw
