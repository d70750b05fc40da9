// Several queries on one thread: their walks go on in turn, so that one computes while the others wait for
// memory.
#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "hnsw/search_state.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t most_in_turn = 4; // walks that one thread goes on with

} // namespace

// Where what walks read lies in a cache there is little to wait for, and each walk does best alone with the
// first-level cache.
std::size_t Index::Impl::walks_in_turn() const {
  return storage.end() * storage.block_bytes() > cache_bytes ? most_in_turn : 1;
}

void Index::Impl::search_many(const float* queries, std::size_t n, std::size_t k, std::size_t ef,
                              const IdFilter* filter, std::int64_t* ids, float* distances,
                              SearchStats* stats) const {
  const auto started = Clock::now();
  const auto pad = [&](std::size_t query, std::size_t found) {
    std::fill(ids + query * k + found, ids + (query + 1) * k, -1);
    std::fill(distances + query * k + found, distances + (query + 1) * k,
              std::numeric_limits<float>::infinity());
  };
  const auto stats_of = [&](std::size_t query) { return stats == nullptr ? nullptr : stats + query; };
  const auto alone = [&](std::size_t query) {
    const float* vector = queries + query * config.dim;
    std::int64_t* id = ids + query * k;
    pad(query, search(vector, k, ef, filter, id, distances + query * k, stats_of(query)));
  };
  if (n < 2 || k == 0 || filter != nullptr || mostly_dead() || entry().empty()) {
    for (std::size_t i = 0; i < n; ++i) alone(i);
  } else {
    const Pin pin(*this);
    const Codec* codec = space.codec.load(std::memory_order_acquire);
    const std::size_t breadth = std::min(std::max(ef, k), static_cast<std::size_t>(storage.end()));
    std::array<std::optional<Search>, most_in_turn> places;
    std::array<Walk*, most_in_turn> walks{};
    std::array<std::size_t, most_in_turn> numbers{}; // of the query, and of its place
    std::array<std::size_t, most_in_turn> at{};
    std::size_t active = 0;
    std::size_t next = 0;
    const auto begin = [&](std::size_t place) {
      while (next < n) {
        Search& search = places[place].emplace(*this, queries + next * config.dim, codec);
        const std::size_t query = next++;
        if (search.from.empty()) {
          pad(query, 0);
          continue;
        }
        search.begin(k, breadth);
        at[active] = place;
        numbers[active] = query;
        walks[active++] = &search.lease->walk;
        return;
      }
    };
    const std::size_t together = walks_in_turn();
    for (std::size_t place = 0; place < together; ++place) begin(place);
    while (active != 0) {
      const WalkKernel walk = places[at[0]]->walking().walk();
      const std::size_t done = walk(walks.data(), active);
      const std::size_t place = at[done];
      const std::size_t query = numbers[done];
      Search& search = *places[place];
      search.finish(k);
      const bool crowded = search.lease->found.size() < std::min(k, live.load(std::memory_order_relaxed));
      if (!crowded) pad(query, search.write(ids + query * k, distances + query * k, stats_of(query)));
      --active;
      at[done] = at[active];
      numbers[done] = numbers[active];
      walks[done] = walks[active];
      if (crowded) alone(query);
      begin(place);
    }
  }
  if (stats == nullptr) return;
  for (std::size_t i = 0; i < n; ++i) stats[i].nanoseconds = since_ns(started);
}

} // namespace embedcore::hnsw
