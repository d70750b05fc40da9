#include "hnsw/exact.h"

#include "world.h"

using namespace embedcore;
using namespace embedcore::test;

TEST(exact_search_agrees_with_sorting_in_double) {
  std::mt19937 random(5);
  // Few queries over many rows (split by rows), many over few (split by queries), k above the rows.
  struct Shape {
    std::size_t rows, queries, k;
  };
  for (const Shape shape : {Shape{40000, 3, 7}, Shape{300, 100, 5}, Shape{4, 20, 9}, Shape{0, 2, 3}}) {
    for (const Metric metric : {Metric::cosine, Metric::inner_product, Metric::l2}) {
      constexpr std::uint32_t dim = 5;
      const auto base = random_rows(random, shape.rows, dim);
      const auto queries = random_rows(random, shape.queries, dim);
      std::vector<std::int64_t> ids(shape.queries * shape.k);
      std::vector<float> distances(ids.size());
      const Status status =
          hnsw::exact_search(metric, dim, {base.data(), shape.rows}, {queries.data(), shape.queries}, shape.k,
                             3, {}, ids.data(), distances.data());
      CHECK(status.ok());
      for (std::size_t q = 0; q < shape.queries; q += 7) {
        std::vector<double> all;
        for (std::size_t r = 0; r < shape.rows; ++r) {
          all.push_back(true_distance(metric, &queries[q * dim], &base[r * dim], dim));
        }
        std::vector<double> sorted = all;
        std::sort(sorted.begin(), sorted.end());
        for (std::size_t i = 0; i < shape.k; ++i) {
          const std::int64_t id = ids[q * shape.k + i];
          const float distance = distances[q * shape.k + i];
          if (i >= shape.rows) {
            CHECK_EQ(id, -1);
            CHECK(std::isinf(distance));
            continue;
          }
          CHECK(std::abs(distance - sorted[i]) < 1e-4);
          CHECK(std::abs(distance - all[static_cast<std::size_t>(id)]) < 1e-4);
        }
      }
    }
  }
}

TEST(exact_search_orders_equal_distances_by_row) {
  const std::vector<float> base(40, 1.0f); // 20 equal rows of dimension 2
  const std::vector<float> query{1.0f, 1.0f};
  std::vector<std::int64_t> ids(6);
  std::vector<float> distances(6);
  CHECK(hnsw::exact_search(Metric::l2, 2, {base.data(), 20}, {query.data(), 1}, 6, 0, {}, ids.data(),
                           distances.data())
            .ok());
  CHECK(ids == numbered(0, 6));
}

TEST(exact_search_stops_when_asked) {
  const std::vector<float> base(2000, 1.0f);
  std::vector<std::int64_t> ids(1);
  std::vector<float> distances(1);
  const Status status = hnsw::exact_search(
      Metric::l2, 2, {base.data(), 1000}, {base.data(), 1}, 1, 1, [] { return false; }, ids.data(),
      distances.data());
  CHECK(status.error().code == Code::cancelled);
}
