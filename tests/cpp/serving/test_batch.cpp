// A batch is its queries one by one, on the table it began with.
#include <limits>
#include <memory>
#include <string>

#include "check.h"
#include "fixture.h"
#include "serving/router.h"

using namespace embedcore;
using namespace embedcore::serving;
using namespace embedcore::test;

namespace {

constexpr std::size_t dim = 8;
constexpr std::size_t rows = 40;

struct World {
  RoutingTable table;
  std::vector<float> queries; // (rows, dim), used for both generations
  Router router;

  World() {
    table.version = 1;
    static const std::vector<Generation> built = {generation_of(1, random_vectors(200, dim, 1), dim, 2),
                                                  generation_of(2, random_vectors(150, dim, 2), dim)};
    table.generations = built;
    table.consumers.push_back(consumer_of(0, 1, 0.3, 2));
    std::mt19937_64 generator(3);
    queries = random_vector(generator, rows * dim);
    CHECK(router.publish(table).ok());
  }

  [[nodiscard]] std::vector<QueryMatrix> matrices() const {
    return {{1, queries.data(), rows, dim}, {2, queries.data(), rows, dim}};
  }
};

BatchRequest batch_of(const std::vector<QueryMatrix>& matrices, std::int64_t k) {
  BatchRequest request;
  request.vectors = matrices;
  request.k = k;
  return request;
}

} // namespace

TEST(batch_is_its_queries_one_by_one) {
  const World world;
  const auto matrices = world.matrices();
  for (const double weight : {no_override, 0.0, 0.7, 1.0}) {
    for (const unsigned threads : {1u, 3u, 0u}) {
      BatchRequest request = batch_of(matrices, 7);
      request.weight = weight;
      request.threads = threads;
      const auto batch = world.router.search_batch(request);
      CHECK(batch.ok());
      if (!batch.ok()) continue;
      CHECK_EQ(batch.value().weight, weight == no_override ? 0.3 : weight);
      for (std::size_t row = 0; row < rows; ++row) {
        const std::span<const float> query(world.queries.data() + row * dim, dim);
        const std::vector<QueryVector> vectors = {{1, query}, {2, query}};
        Request single;
        single.vectors = vectors;
        single.k = 7;
        single.weight = weight;
        const auto answer = world.router.search(single);
        CHECK(answer.ok());
        for (std::size_t i = 0; i < 7; ++i) {
          CHECK_EQ(batch.value().ids[row * 7 + i], answer.value().ids[i]);
          CHECK_EQ(batch.value().distances[row * 7 + i], answer.value().distances[i]);
        }
      }
    }
  }
  CHECK_EQ(world.router.counters(0).value().queries, std::uint64_t{3 * rows}); // the singles without override
}

TEST(batch_pads_where_items_run_out) {
  const World world;
  const auto matrices = world.matrices();
  BatchRequest request = batch_of(matrices, 160);
  request.weight = 1;
  const auto batch = world.router.search_batch(request);
  CHECK(batch.ok());
  CHECK(batch.value().ids[149] >= 0);
  CHECK_EQ(batch.value().ids[150], -1);
  CHECK_EQ(batch.value().distances[159], std::numeric_limits<float>::infinity());
}

TEST(batch_refuses) {
  World world;
  auto matrices = world.matrices();
  CHECK(world.router.search_batch(batch_of(matrices, 0)).error().code == Code::invalid_argument);
  BatchRequest request = batch_of(matrices, 5);
  request.slot = 3;
  CHECK(world.router.search_batch(request).error().code == Code::not_found);
  matrices[1].rows = rows - 1;
  CHECK(world.router.search_batch(batch_of(matrices, 5)).error().code == Code::invalid_argument);
  matrices.pop_back();
  CHECK(world.router.search_batch(batch_of(matrices, 5)).error().code == Code::failed_precondition);
  world.queries[17 * dim + 2] = std::numeric_limits<float>::infinity();
  const auto bad = world.router.search_batch(batch_of(matrices, 5));
  CHECK(bad.error().code == Code::invalid_argument);
  CHECK(bad.error().message.find("row 17") != std::string::npos);
  const Router empty;
  CHECK(empty.search_batch(batch_of(matrices, 5)).error().code == Code::unavailable);
}

TEST(batch_of_no_rows_is_empty) {
  const World world;
  const std::vector<QueryMatrix> none = {{1, nullptr, 0, dim}, {2, nullptr, 0, dim}};
  const auto batch = world.router.search_batch(batch_of(none, 5));
  CHECK(batch.ok() && batch.value().ids.empty());
}

TEST(batch_stops_when_told) {
  const World world;
  const auto matrices = world.matrices();
  BatchRequest request = batch_of(matrices, 5);
  request.threads = 1;
  std::size_t polled = 0;
  request.keep_going = [&](std::size_t begun) {
    ++polled;
    return begun < 5;
  };
  CHECK(world.router.search_batch(request).error().code == Code::cancelled);
  CHECK_EQ(polled, std::size_t{6});
}

// Publishing does not wait for the batch, and the batch neither notices nor loses its indexes.
TEST(batch_keeps_the_table_it_began_with) {
  Router router;
  std::vector<std::weak_ptr<hnsw::Index>> watched;
  const Vectors old_items = random_vectors(60, dim, 5);
  {
    RoutingTable table;
    table.version = 1;
    table.generations.push_back(generation_of(1, old_items, dim));
    table.consumers.push_back(consumer_of(0, -1, 0, 1));
    watched.push_back(table.generations[0].shards[0]);
    CHECK(router.publish(std::move(table)).ok());
  }
  std::mt19937_64 generator(6);
  const std::vector<float> queries = random_vector(generator, 4 * dim);
  const std::vector<QueryMatrix> matrices = {{1, queries.data(), 4, dim}};
  BatchRequest request = batch_of(matrices, 3);
  request.threads = 1;
  request.keep_going = [&](std::size_t begun) {
    if (begun == 1) {
      RoutingTable table;
      table.version = 2;
      table.generations.push_back(generation_of(1, {{777, old_items.at(0)}}, dim));
      table.consumers.push_back(consumer_of(0, -1, 0, 1));
      CHECK(router.publish(std::move(table)).ok());
      CHECK(!watched[0].expired());
    }
    return true;
  };
  const auto batch = router.search_batch(request);
  CHECK(batch.ok());
  CHECK_EQ(batch.value().table_version, std::uint64_t{1});
  for (std::size_t row = 0; row < 4; ++row) {
    const std::vector<float> query(queries.begin() + static_cast<std::ptrdiff_t>(row * dim),
                                   queries.begin() + static_cast<std::ptrdiff_t>((row + 1) * dim));
    const auto expected = nearest(old_items, query, 3);
    for (std::size_t i = 0; i < 3; ++i) CHECK_EQ(batch.value().ids[row * 3 + i], expected[i].id);
  }
  CHECK_EQ(router.version(), std::uint64_t{2});
  CHECK(watched[0].expired());
}
