// Two generations of one corpus, half-way through a migration: what the router's tests ask about.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "check.h"
#include "fixture.h"
#include "serving/router.h"

namespace embedcore::test {

using namespace embedcore::serving; // NOLINT: a header of tests

inline constexpr std::size_t old_dim = 12;
inline constexpr std::size_t new_dim = 20;

// Generation 3 holds 300 items, generation 5 two thirds of them and ten of its own.
struct Items {
  Vectors old_items = random_vectors(300, old_dim, 11);
  Vectors new_items = random_vectors(310, new_dim, 12);

  Items() {
    std::erase_if(new_items, [](const auto& item) { return item.first < 300 && item.first % 3 == 0; });
  }
};

// Built again only for another number of shards, since no test changes an index; and not kept for all
// numbers, since an index reserves address space, of which ThreadSanitizer leaves little.
inline const std::vector<Generation>& generations_of(std::size_t shards) {
  static std::vector<Generation> built;
  if (built.empty() || built.front().shards.size() != shards) {
    const Items items;
    built.clear();
    built.push_back(generation_of(3, items.old_items, old_dim, shards));
    built.push_back(generation_of(5, items.new_items, new_dim, shards));
  }
  return built;
}

struct World : Items {
  std::vector<float> old_query;
  std::vector<float> new_query;
  std::shared_ptr<const dualwrite::ScoreCalibration> calibration;
  RoutingTable table;

  explicit World(double weight, std::size_t shards = 1, std::uint64_t query_seed = 13) {
    std::mt19937_64 generator(query_seed);
    old_query = random_vector(generator, old_dim);
    new_query = random_vector(generator, new_dim);
    const std::vector<double> x = {0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0};
    const std::vector<double> y = {0.1, 0.3, 0.5, 0.65, 0.8, 0.95, 1.2, 1.5};
    calibration = std::make_shared<dualwrite::ScoreCalibration>(
        std::move(dualwrite::ScoreCalibration::fit(x, y).value()));
    table.version = 1;
    table.generations = generations_of(shards);
    table.consumers.push_back(consumer_of(0, 1, weight, 2));
    table.consumers[0].calibration = calibration;
  }

  [[nodiscard]] std::vector<QueryVector> queries() const { return {{3, old_query}, {5, new_query}}; }
};

inline Answer answer_of(const Router& router, const Request& request) {
  auto result = router.search(request);
  if (!result.ok()) {
    fail(__FILE__, __LINE__, result.error().message);
    return {};
  }
  return std::move(result.value());
}

inline Request request_of(const std::vector<QueryVector>& queries, std::int64_t k) {
  Request request;
  request.vectors = queries;
  request.k = k;
  return request;
}

} // namespace embedcore::test
