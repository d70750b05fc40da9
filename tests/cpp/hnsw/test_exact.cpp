// Exact search against sorting in double, on every set of kernels that runs here.
#include "hnsw/exact.h"

#include "hnsw/kernels.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr Metric metrics[] = {Metric::cosine, Metric::inner_product, Metric::l2};

struct Answer {
  std::vector<std::int64_t> ids;
  std::vector<float> distances;

  bool operator==(const Answer&) const = default;
};

struct Question {
  Metric metric;
  std::uint32_t dim;
  std::vector<float> base;
  std::vector<float> queries;

  [[nodiscard]] std::size_t rows() const { return base.size() / dim; }
  [[nodiscard]] std::size_t count() const { return queries.size() / dim; }

  [[nodiscard]] Answer ask(const hnsw::Kernels& kernels, std::size_t k, unsigned threads) const {
    Answer answer{std::vector<std::int64_t>(count() * k, -2), std::vector<float>(count() * k)};
    const Status status =
        hnsw::exact_search(kernels, metric, dim, {base.data(), rows()}, {queries.data(), count()}, k, threads,
                           {}, answer.ids.data(), answer.distances.data());
    CHECK(status.ok());
    return answer;
  }

  // Distances as their definition has them, at the right places, without repetition, in order.
  void check(const Answer& answer, std::size_t k) const {
    for (std::size_t q = 0; q < count(); ++q) {
      std::vector<double> all(rows());
      for (std::size_t r = 0; r < rows(); ++r)
        all[r] = true_distance(metric, &queries[q * dim], &base[r * dim], dim);
      std::vector<double> sorted = all;
      std::sort(sorted.begin(), sorted.end());
      std::set<std::int64_t> seen;
      for (std::size_t i = 0; i < k; ++i) {
        const std::int64_t id = answer.ids[q * k + i];
        const float distance = answer.distances[q * k + i];
        if (i >= rows()) {
          CHECK_EQ(id, -1);
          CHECK(std::isinf(distance));
          continue;
        }
        CHECK(id >= 0 && static_cast<std::size_t>(id) < rows() && seen.insert(id).second);
        const double tolerance = 1e-5 + 1e-4 * std::abs(sorted[i]);
        CHECK(std::abs(distance - sorted[i]) < tolerance);
        CHECK(std::abs(distance - all[static_cast<std::size_t>(id)]) < tolerance);
        if (i == 0) continue;
        const float before = answer.distances[q * k + i - 1];
        CHECK(before < distance || (before == distance && answer.ids[q * k + i - 1] < id));
      }
    }
  }
};

std::vector<const hnsw::Kernels*> running() {
  std::vector<const hnsw::Kernels*> sets;
  for (const hnsw::Kernels* kernels : hnsw::compiled_kernels()) {
    if (hnsw::runs_here(*kernels)) sets.push_back(kernels);
  }
  return sets;
}

} // namespace

SLOW_TEST(exact_search_agrees_with_sorting_in_double) {
  std::mt19937 random(5);
  struct Shape {
    std::uint32_t dim;
    std::size_t rows, queries;
  };
  // Below, at and beyond a panel of queries (8 to 32) and its half, tiles of rows (6, 12) and blocks (48 to
  // 256 rows); none of either; a dimension that is read in chunks.
  for (const Shape shape :
       {Shape{1, 600, 33}, Shape{7, 301, 37}, Shape{384, 200, 19}, Shape{385, 131, 50}, Shape{1600, 53, 8},
        Shape{5, 13, 1}, Shape{5, 1, 16}, Shape{3, 0, 2}, Shape{3, 5, 0}}) {
    for (const Metric metric : metrics) {
      const Question question{metric, shape.dim, random_rows(random, shape.rows, shape.dim),
                              random_rows(random, shape.queries, shape.dim)};
      for (const hnsw::Kernels* kernels : running()) {
        for (const std::size_t k : {std::size_t{1}, std::size_t{10}, shape.rows, shape.rows + 3}) {
          question.check(question.ask(*kernels, k, 1), k);
        }
      }
    }
  }
}

SLOW_TEST(exact_search_does_not_depend_on_batch_or_threads) {
  std::mt19937 random(6);
  constexpr std::uint32_t dim = 40;
  for (const Metric metric : metrics) {
    // 1.6 MB an eighth of base: enough for parts; 300 queries are two groups.
    const Question all{metric, dim, random_rows(random, 80000, dim), random_rows(random, 300, dim)};
    for (const hnsw::Kernels* kernels : running()) {
      const Answer answer = all.ask(*kernels, 4, 1);
      for (const unsigned threads : {0u, 2u, 5u}) CHECK(all.ask(*kernels, 4, threads) == answer);
      for (const std::size_t count : {1, 7, 20}) {
        Question some = all;
        some.queries.resize(count * dim);
        Answer expected = answer;
        expected.ids.resize(count * 4);
        expected.distances.resize(count * 4);
        for (const unsigned threads : {1u, 3u}) CHECK(some.ask(*kernels, 4, threads) == expected);
      }
    }
  }
}

TEST(exact_search_measures_near_rows_of_long_vectors) {
  // Squares of norms of 4e8 and distances of 1e-4: their difference would be all rounding.
  std::mt19937 random(7);
  constexpr std::uint32_t dim = 48;
  Question question{Metric::l2, dim, random_rows(random, 500, dim), {}};
  for (float& x : question.base) x = 3000.0f + x * 0.001f;
  question.queries.assign(question.base.begin(), question.base.begin() + 40 * dim);
  for (const hnsw::Kernels* kernels : running()) {
    const Answer answer = question.ask(*kernels, 12, 2);
    question.check(answer, 12);
    for (std::size_t q = 0; q < question.count(); ++q) CHECK_EQ(answer.distances[q * 12], 0.0f);
  }
}

TEST(exact_search_takes_vectors_of_any_length) {
  // From what float32 squares cannot hold to the longest that check_vectors lets in.
  std::mt19937 random(8);
  constexpr std::uint32_t dim = 20;
  Question question{Metric::cosine, dim, random_rows(random, 300, dim), random_rows(random, 35, dim)};
  const float lengths[] = {1e-28f, 1e-12f, 1.0f, 1e12f, 1e18f};
  for (std::size_t i = 0; i < question.base.size(); ++i) question.base[i] *= lengths[i / dim % 5];
  for (std::size_t i = 0; i < question.queries.size(); ++i) question.queries[i] *= lengths[i / dim % 5];
  for (const hnsw::Kernels* kernels : running()) question.check(question.ask(*kernels, 7, 1), 7);
}

TEST(exact_search_orders_equal_distances_by_row) {
  constexpr std::size_t rows = 30000;
  for (const Metric metric : metrics) {
    // Four directions in turn: the nearest of a query are every fourth row.
    Question question{metric, 24, std::vector<float>(rows * 24), std::vector<float>(21 * 24)};
    for (std::size_t r = 0; r < rows; ++r) question.base[r * 24 + r % 4] = 1.0f;
    for (std::size_t q = 0; q < 21; ++q) question.queries[q * 24 + q % 4] = 1.0f;
    for (const hnsw::Kernels* kernels : running()) {
      for (const unsigned threads : {1u, 4u}) {
        for (const std::size_t count : {21, 2}) {
          Question some = question;
          some.queries.resize(count * 24);
          const Answer answer = some.ask(*kernels, 9, threads);
          for (std::size_t i = 0; i < count * 9; ++i) {
            CHECK_EQ(answer.ids[i], static_cast<std::int64_t>(i / 9 % 4 + 4 * (i % 9)));
          }
        }
      }
    }
  }
}

SLOW_TEST(exact_search_names_the_first_bad_row_of_the_base) {
  constexpr std::uint32_t dim = 8;
  std::vector<float> base(std::size_t{400'000} * dim, 0.5f); // several parts for several threads
  std::vector<float> queries(300 * dim, 1.0f);               // and two groups
  const std::size_t rows = base.size() / dim;
  for (const std::size_t bad : {rows - 1, rows / 2, std::size_t{77}}) { // each before the last
    base[bad * dim + 3] = std::numeric_limits<float>::quiet_NaN();
    for (const unsigned threads : {1u, 3u}) {
      std::vector<std::int64_t> ids(300);
      std::vector<float> distances(300);
      const Status status = hnsw::exact_search(Metric::l2, dim, {base.data(), rows}, {queries.data(), 300}, 1,
                                               threads, {}, ids.data(), distances.data());
      CHECK(status.error().code == Code::invalid_argument);
      CHECK_EQ(status.error().message,
               "base vector " + std::to_string(bad) + " holds NaN at position 3; all values must be finite");
    }
  }
  CHECK(!hnsw::exact_search(Metric::l2, dim, {base.data(), rows}, {queries.data(), 0}, 1, 1, {}, nullptr,
                            nullptr)
             .ok()); // even where nothing is asked
}

TEST(exact_search_stops_when_asked) {
  const std::vector<float> base(80000, 1.0f);
  for (const std::size_t queries : {1, 40}) {
    for (const unsigned threads : {1u, 3u}) {
      std::vector<std::int64_t> ids(queries);
      std::vector<float> distances(queries);
      int polls = 0;
      const auto twice = [&] { return ++polls < 3; };
      const Status status = hnsw::exact_search(Metric::l2, 2, {base.data(), 40000}, {base.data(), queries}, 1,
                                               threads, twice, ids.data(), distances.data());
      // Other threads may have left the polling one nothing to do.
      CHECK(status.ok() ? threads > 1 : status.error().code == Code::cancelled);
      CHECK(threads > 1 || polls == 3);
    }
  }
}
