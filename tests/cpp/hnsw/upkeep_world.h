// An index under additions and removals beside its oracle, for the tests of upkeep.
#pragma once

#include "world.h"

namespace embedcore::test {

struct UpkeepWorld {
  UpkeepWorld(std::uint32_t dimension, std::uint32_t m, std::uint32_t seed, Metric metric = Metric::l2,
              Kind kind = {})
      : dim(dimension), random(seed), index(make_index(dim, metric, m, 0, kind)), oracle(metric, dim) {}

  void add(std::int64_t first, std::size_t n) {
    const auto rows = random_rows(random, n, dim);
    CHECK(index->add(numbered(first, n), rows.data(), 1).ok());
    for (std::size_t i = 0; i < n; ++i) {
      oracle.items[first + static_cast<std::int64_t>(i)] = kept(index->config(), &rows[i * dim]);
    }
  }
  void remove_share(double share) {
    std::vector<std::int64_t> gone;
    std::bernoulli_distribution goes(share);
    for (const auto& [id, v] : oracle.items) {
      if (goes(random)) gone.push_back(id);
    }
    CHECK_EQ(index->remove(gone), gone.size());
    for (const std::int64_t id : gone) oracle.items.erase(id);
  }
  [[nodiscard]] double recall_now() {
    double total = 0;
    for (int q = 0; q < 40; ++q) {
      const Vector query = random_vector(random, dim);
      total += recall(search(*index, query.data(), 10, 50).ids, oracle.nearest(query.data(), 10));
    }
    return total / 40;
  }
  // Codes are what their codec makes of what is kept, wherever nodes were moved.
  void expect_codes() const {
    const Index::Impl& x = hnsw::IndexTestPeer::impl(*index);
    const hnsw::Codec* codec = x.space.codec.load();
    if (codec == nullptr) return;
    const std::size_t bytes = hnsw::Codec::bytes(x.config);
    std::vector<std::byte> code(bytes);
    Vector buffer;
    std::size_t wrong = 0;
    for (hnsw::Slot slot = 0; slot < x.storage.end(); ++slot) {
      if (!x.attached(slot)) continue;
      codec->encode(x.kept_unit(slot, buffer), code.data());
      wrong += std::equal(code.begin(), code.end(), x.storage.code(slot)) ? 0u : 1u;
    }
    CHECK_EQ(wrong, std::size_t{0});
  }

  std::uint32_t dim;
  std::mt19937 random;
  std::shared_ptr<Index> index;
  Oracle oracle;
};

// Links of live nodes that lead to nodes which are not live.
inline std::size_t links_to_dead(Index& index) {
  const Index::Impl& x = hnsw::IndexTestPeer::impl(index);
  std::size_t count = 0;
  for (hnsw::Slot slot = 0; slot < x.storage.end(); ++slot) {
    if (x.storage.state(slot) != hnsw::State::live) continue;
    for (std::uint32_t level = 0; level <= x.storage.node(slot).level; ++level) {
      const hnsw::Links links = x.storage.links(slot, level);
      for (std::size_t i = 0; i < links.count; ++i) {
        const hnsw::Slot to = links.load(i);
        count += to != hnsw::no_slot && x.storage.state(to) != hnsw::State::live ? 1u : 0u;
      }
    }
  }
  return count;
}

} // namespace embedcore::test
