// search_many returns what searches one by one return, however many there are.
#include "hnsw/filter.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 32;

// Rows of k of one call against calls of search, effort included.
void expect_same_now(const Index& index, const std::vector<float>& queries, std::size_t k, std::size_t ef,
                     const hnsw::IdFilter* filter) {
  const std::size_t n = queries.size() / dim;
  std::vector<std::int64_t> ids(n * k, 77);
  std::vector<float> distances(n * k, 77.0f);
  std::vector<hnsw::SearchStats> stats(n);
  index.search_many(queries.data(), n, k, ef, filter, ids.data(), distances.data(), stats.data());
  std::size_t wrong = 0;
  for (std::size_t q = 0; q < n; ++q) {
    std::vector<std::int64_t> own(k, -1);
    std::vector<float> at(k, std::numeric_limits<float>::infinity());
    hnsw::SearchStats effort;
    index.search(&queries[q * dim], k, ef, filter, own.data(), at.data(), &effort);
    for (std::size_t i = 0; i < k; ++i) {
      wrong += own[i] == ids[q * k + i] ? 0u : 1u;
      wrong += at[i] == distances[q * k + i] ? 0u : 1u;
    }
    if (k == 0) continue; // nothing is searched
    wrong += effort.hops == stats[q].hops && effort.distances == stats[q].distances ? 0u : 1u;
  }
  CHECK_EQ(wrong, std::size_t{0});
}

// The same with walks in turn, as in an index that is larger than the cache, and one after another.
void expect_same(Index& index, const std::vector<float>& queries, std::size_t k, std::size_t ef,
                 const hnsw::IdFilter* filter = nullptr) {
  for (const std::size_t cache : {std::size_t{0}, std::numeric_limits<std::size_t>::max()}) {
    hnsw::IndexTestPeer::impl(index).cache_bytes = cache;
    expect_same_now(index, queries, k, ef, filter);
  }
}

} // namespace

SLOW_TEST(many_searches_at_once_are_the_same_as_one_by_one) {
  std::mt19937 random(171);
  std::size_t round = 0;
  for (const Kind kind : every_kind) {
    const auto index = make_index(dim, every_metric[round++ % 3], 6, 0, kind);
    const auto rows = random_rows(random, 600, dim);
    CHECK(index->add(numbered(0, 600), rows.data(), 1).ok());
    std::vector<std::int64_t> order = numbered(0, 600);
    std::shuffle(order.begin(), order.end(), random);
    std::size_t gone = 0;
    for (const std::size_t share : {0u, 10u, 50u, 90u}) { // per cent; from the last on most are dead
      const std::size_t more = 6 * share - gone;
      CHECK_EQ(index->remove(std::span(order).subspan(gone, more)), more);
      gone += more;
      for (const std::size_t n : {0u, 1u, 2u, 3u, 4u, 5u, 9u, 33u}) {
        const auto queries = random_rows(random, n, dim);
        for (const std::size_t k : {0u, 1u, 10u, 50u}) {
          for (const std::size_t ef : {1u, 10u, 120u}) expect_same(*index, queries, k, ef);
        }
      }
    }
  }
}

TEST(many_searches_of_an_index_with_fewer_than_k_are_padded) {
  std::mt19937 random(172);
  for (const std::size_t items : {0u, 1u, 7u}) {
    for (const hnsw::Codes codes : {hnsw::Codes::none, hnsw::Codes::int8}) {
      const auto index = make_index(dim, Metric::l2, 4, 0, {hnsw::Dtype::float32, codes});
      const auto rows = random_rows(random, items, dim);
      CHECK(index->add(numbered(0, items), rows.data(), 1).ok());
      const auto queries = random_rows(random, 9, dim);
      expect_same(*index, queries, 20, 50);
      std::vector<std::int64_t> ids(9 * 20, 77);
      std::vector<float> distances(9 * 20, 77.0f);
      index->search_many(queries.data(), 9, 20, 50, nullptr, ids.data(), distances.data());
      for (std::size_t i = 0; i < ids.size(); ++i) {
        CHECK_EQ(ids[i] == -1, i % 20 >= items);
        CHECK_EQ(std::isinf(distances[i]), i % 20 >= items);
      }
      CHECK_EQ(index->remove(numbered(0, items)), items);
      expect_same(*index, queries, 20, 50);
    }
  }
}

TEST(tombstones_crowded_around_the_queries_hide_nothing) {
  // Half of the items, all those near the queries, are dead: walks meet nothing else at first.
  std::mt19937 random(173);
  for (const Kind kind : every_kind) {
    const auto index = make_index(dim, Metric::l2, 6, 0, kind);
    auto rows = random_rows(random, 800, dim);
    for (std::size_t i = 400 * dim; i < rows.size(); ++i) rows[i] += 3;
    CHECK(index->add(numbered(0, 800), rows.data(), 1).ok());
    CHECK_EQ(index->remove(numbered(0, 395)), std::size_t{395});
    const auto queries = random_rows(random, 10, dim);
    expect_same(*index, queries, 10, 10);
    hnsw::IndexTestPeer::impl(*index).cache_bytes = 0;
    std::vector<std::int64_t> ids(100);
    std::vector<float> distances(100);
    index->search_many(queries.data(), 10, 10, 10, nullptr, ids.data(), distances.data());
    for (std::size_t q = 0; q < 10; ++q) {
      const std::set<std::int64_t> found(&ids[10 * q], &ids[10 * q] + 10);
      CHECK_EQ(found.size(), std::size_t{10});
      CHECK(*found.begin() >= 395);
    }
  }
}

TEST(many_filtered_searches_are_the_same_as_one_by_one) {
  std::mt19937 random(174);
  const auto index = make_index(dim, Metric::cosine, 6, 0, {hnsw::Dtype::float16, hnsw::Codes::int8});
  const auto rows = random_rows(random, 500, dim);
  CHECK(index->add(numbered(0, 500), rows.data(), 1).ok());
  struct Odd : hnsw::IdFilter {
    [[nodiscard]] bool allows(std::int64_t id) const override { return id % 2 == 1; }
  };
  const hnsw::IdSet few(numbered(100, 30));
  const auto queries = random_rows(random, 9, dim);
  expect_same(*index, queries, 10, 60, &few);
  const Odd odd;
  expect_same(*index, queries, 10, 60, &odd);
}
