// Reading: search, range search, scores. No lock anywhere; an epoch guard keeps what is reached alive.
#include <algorithm>
#include <limits>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

namespace {

// Scoring a list costs its length; a filtered walk costs about ef / selectivity nodes, each with some
// neighbours: with selectivity = listed / live, the list is cheaper while listed^2 < 8 ef live.
bool list_is_cheaper(std::size_t listed, std::size_t ef, std::size_t live) {
  const auto length = static_cast<double>(listed);
  return length <= 128 || length * length <= 8.0 * static_cast<double>(ef) * static_cast<double>(live);
}

} // namespace

Candidate Index::Impl::approach(const Query& query, Entry from, std::uint32_t level, Scratch& scratch) const {
  Candidate at{query.to(from.slot), from.slot};
  ++scratch.distances;
  for (std::uint32_t l = from.level; l > level; --l) at = descend(space, query, at, l, scratch);
  return at;
}

void Index::Impl::resolve(const Query& query, std::uint64_t ended_at_start, std::size_t limit,
                          const IdFilter* filter, std::span<const Candidate> candidates,
                          Scratch& scratch) const {
  auto& found = scratch.found;
  found.clear();
  bool plain = scratch.died.empty();
  for (const Candidate& c : candidates) {
    if (!plain || found.size() == limit) break;
    const State state = storage.state(c.slot);
    if (state == State::live) found.push_back(c);
    if (state == State::pending) plain = false; // its item may be visible elsewhere
  }
  if (plain && begun.load(std::memory_order_acquire) == ended_at_start) return;

  // Changes went on meanwhile. The table says where each item is now; an item that moved during this
  // search is found through its old slot as well as through its new one, and returned once.
  found.clear();
  for (const Candidate& c : candidates) {
    const Slot now = table->find(storage.node(c.slot).id);
    if (now != no_slot) found.push_back({now == c.slot ? c.distance : query.to(now), now});
  }
  for (const Slot slot : scratch.died) {
    const std::int64_t id = storage.node(slot).id;
    if (filter != nullptr && !filter->allows(id)) continue;
    if (const Slot now = table->find(id); now != no_slot) found.push_back({query.to(now), now});
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

void Index::Impl::score_list(const Query& query, std::span<const std::int64_t> listed, std::size_t limit,
                             Scratch& scratch) const {
  auto& found = scratch.found;
  found.clear();
  for (const std::int64_t id : listed) {
    if (const Slot slot = table->find(id); slot != no_slot) found.push_back({query.to(slot), slot});
  }
  scratch.distances += found.size();
  const std::size_t kept = std::min(limit, found.size());
  std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(kept), found.end(), nearer);
  found.resize(kept);
}

std::size_t Index::Impl::search(const float* query, std::size_t k, std::size_t ef, const IdFilter* filter,
                                std::int64_t* ids, float* distances, SearchStats* stats) const {
  const Pin pin(*this);
  const std::uint64_t since = ended.load(std::memory_order_acquire); // before anything of the graph
  const Entry from = entry();
  if (k == 0 || from.empty()) return 0;
  const std::size_t end = storage.end();
  const ScratchPool::Lease lease(scratches, end);
  Scratch& scratch = *lease;
  const Query q(space, query, config.metric == Metric::cosine ? inverse_norm(query, config.dim) : 1.0f,
                scratch.query);
  ef = std::min(std::max(ef, k), end);

  const auto listed = filter == nullptr ? std::span<const std::int64_t>{} : filter->listed();
  const std::size_t living = live.load(std::memory_order_relaxed);
  if (!listed.empty() && list_is_cheaper(listed.size(), ef, living)) {
    score_list(q, listed, k, scratch);
  } else {
    const Candidate start = approach(q, from, 0, scratch);
    auto& best = scratch.best;
    if (filter == nullptr && tombstones.load(std::memory_order_acquire) == 0) {
      scratch.queue.reset(ef);
      scratch.queue.push(start.distance, start.slot);
      scratch.visited.insert(start.slot);
      walk_all(space, q, 0, scratch);
      best.clear();
      for (std::size_t i = 0; i < scratch.queue.size(); ++i) best.push_back(scratch.queue[i]);
    } else {
      walk_admitted(space, q, start, ef, {filter, since}, scratch);
    }
    resolve(q, since, k, filter, best, scratch);
    // Allowed items far from the query can lie outside what the walk reached.
    if (scratch.found.size() < std::min(k, listed.size())) score_list(q, listed, k, scratch);
  }
  if (stats != nullptr) *stats = {scratch.hops, scratch.distances};
  for (std::size_t i = 0; i < scratch.found.size(); ++i) {
    ids[i] = storage.node(scratch.found[i].slot).id;
    distances[i] = scratch.found[i].distance;
  }
  return scratch.found.size();
}

void Index::Impl::range_search(const float* query, float radius, std::size_t ef, const IdFilter* filter,
                               std::vector<std::int64_t>& ids, std::vector<float>& distances) const {
  ids.clear();
  distances.clear();
  const Pin pin(*this);
  const std::uint64_t since = ended.load(std::memory_order_acquire);
  const Entry from = entry();
  if (from.empty()) return;
  const std::size_t end = storage.end();
  const ScratchPool::Lease lease(scratches, end);
  Scratch& scratch = *lease;
  const Query q(space, query, config.metric == Metric::cosine ? inverse_norm(query, config.dim) : 1.0f,
                scratch.query);
  const auto listed = filter == nullptr ? std::span<const std::int64_t>{} : filter->listed();
  ef = std::clamp<std::size_t>(ef, 1, end);
  if (!listed.empty() && list_is_cheaper(listed.size(), ef, live.load(std::memory_order_relaxed))) {
    score_list(q, listed, listed.size(), scratch);
  } else {
    walk_admitted(space, q, approach(q, from, 0, scratch), ef, {filter, since, radius}, scratch);
    resolve(q, since, scratch.best.size() + scratch.died.size(), filter, scratch.best, scratch);
  }
  for (const Candidate& c : scratch.found) {
    if (c.distance > radius) break;
    ids.push_back(storage.node(c.slot).id);
    distances.push_back(c.distance);
  }
}

void Index::Impl::scores(const float* query, std::span<const std::int64_t> ids, float* distances) const {
  const Pin pin(*this);
  const ScratchPool::Lease lease(scratches, 0);
  const Query q(space, query, config.metric == Metric::cosine ? inverse_norm(query, config.dim) : 1.0f,
                lease->query);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const Slot slot = table->find(ids[i]);
    distances[i] = slot == no_slot ? std::numeric_limits<float>::quiet_NaN() : q.to(slot);
  }
}

} // namespace embedcore::hnsw
