// The router against the exact answer: weights, shards, filters, canary, deadlines, refusals, counters.
#include "serving/router.h"

#include <cmath>
#include <memory>
#include <string>

#include "check.h"
#include "common/xxhash.h"
#include "fixture.h"

using namespace embedcore;
using namespace embedcore::serving;
using namespace embedcore::test;

namespace {

constexpr std::size_t old_dim = 12;
constexpr std::size_t new_dim = 20;

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
const std::vector<Generation>& generations_of(std::size_t shards) {
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

Answer answer_of(const Router& router, const Request& request) {
  auto result = router.search(request);
  if (!result.ok()) {
    fail(__FILE__, __LINE__, result.error().message);
    return {};
  }
  return std::move(result.value());
}

Request request_of(const std::vector<QueryVector>& queries, std::int64_t k) {
  Request request;
  request.vectors = queries;
  request.k = k;
  return request;
}

} // namespace

TEST(router_weight_zero_and_one_are_that_index_exactly) {
  for (const double weight : {0.0, 1.0}) {
    const World world(weight);
    Router router;
    CHECK(router.publish(world.table).ok());
    const auto queries = world.queries();
    const Answer answer = answer_of(router, request_of(queries, 20));
    const auto& index = world.table.generations[weight == 0 ? 0 : 1].shards[0];
    std::vector<std::int64_t> ids(20);
    std::vector<float> distances(20);
    const auto& query = weight == 0 ? world.old_query : world.new_query;
    CHECK_EQ(index->search(query.data(), 20, 1000, nullptr, ids.data(), distances.data()), std::size_t{20});
    CHECK(answer.ids == ids);
    CHECK(answer.distances == distances);
    CHECK(answer.generations == (std::vector<std::int64_t>{weight == 0 ? 3 : 5}));
    CHECK_EQ(answer.shards_asked, 1u);
    CHECK_EQ(answer.shards_answered, 1u);
    CHECK_EQ(answer.weight, weight);
    CHECK(!answer.partial);
    CHECK_EQ(answer.missing_generation, -1);
  }
}

TEST(router_blend_is_the_protocols_rule) {
  for (const std::size_t shards : {1, 4}) {
    for (const double weight : {0.1, 0.5, 0.9}) {
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        const World world(weight, shards, seed);
        Router router;
        CHECK(router.publish(world.table).ok());
        const auto queries = world.queries();
        const Answer answer = answer_of(router, request_of(queries, 10));
        check_answer(answer, blended_nearest(world.old_items, world.old_query, world.new_items,
                                             world.new_query, weight, world.calibration.get(), 10));
        CHECK(answer.generations == (std::vector<std::int64_t>{3, 5}));
        CHECK_EQ(answer.shards_answered, static_cast<std::uint32_t>(2 * shards));
      }
    }
  }
}

TEST(router_shards_answer_as_one_index) {
  for (const std::size_t shards : {2, 4}) {
    World world(0, shards);
    Router router;
    CHECK(router.publish(world.table).ok());
    const auto queries = world.queries();
    check_answer(answer_of(router, request_of(queries, 25)), nearest(world.old_items, world.old_query, 25));
  }
}

// While a split copies items, parent and sub-shard both hold them.
TEST(router_item_in_two_shards_is_one_result) {
  World world(0);
  world.table.generations[0].shards.push_back(world.table.generations[0].shards[0]);
  Router router;
  CHECK(router.publish(world.table).ok());
  const auto queries = world.queries();
  check_answer(answer_of(router, request_of(queries, 10)), nearest(world.old_items, world.old_query, 10));
}

TEST(router_k_beyond_the_items_gives_them_all) {
  const World world(0.5);
  Router router;
  CHECK(router.publish(world.table).ok());
  const auto queries = world.queries();
  CHECK_EQ(answer_of(router, request_of(queries, max_k)).ids.size(), std::size_t{310});
}

TEST(router_filter_allows_only_its_ids) {
  const std::vector<std::int64_t> allowed = {2, 3, 50, 51, 52, 250, 305, 9999};
  for (const double weight : {0.0, 0.4, 1.0}) {
    World world(weight, 2);
    Router router;
    CHECK(router.publish(world.table).ok());
    const auto queries = world.queries();
    Request request = request_of(queries, 5);
    request.filter = allowed;
    const auto outside = [&](const auto& item) {
      return !std::binary_search(allowed.begin(), allowed.end(), item.first);
    };
    std::erase_if(world.old_items, outside);
    std::erase_if(world.new_items, outside);
    const auto expected = weight == 0 ? nearest(world.old_items, world.old_query, 5)
                          : weight == 1
                              ? nearest(world.new_items, world.new_query, 5)
                              : blended_nearest(world.old_items, world.old_query, world.new_items,
                                                world.new_query, weight, world.calibration.get(), 5);
    check_answer(answer_of(router, request), expected);
    request.filter = std::span<const std::int64_t>{};
    CHECK(answer_of(router, request).ids.empty());
    const std::vector<std::int64_t> unsorted = {5, 4};
    request.filter = unsorted;
    CHECK(router.search(request).error().code == Code::invalid_argument);
  }
}

TEST(router_canary_users_are_wholly_on_the_target) {
  World world(0.1);
  world.table.consumers[0].canary_share = 0.25;
  world.table.consumers[0].canary_salt = 99;
  Router router;
  CHECK(router.publish(world.table).ok());
  const auto queries = world.queries();
  int canaries = 0;
  for (int user = 0; user < 400; ++user) {
    Request request = request_of(queries, 5);
    request.user_hash = item_hash("user" + std::to_string(user));
    const Answer answer = answer_of(router, request);
    const bool expected = hash_share(request.user_hash, 99) < 0.25;
    CHECK(answer.arm == (expected ? Arm::canary : Arm::control));
    CHECK_EQ(answer.weight, expected ? 1.0 : 0.1);
    CHECK_EQ(answer.generations.size(), std::size_t{expected ? 1u : 2u});
    const auto plan = router.plan(0, request.user_hash);
    CHECK(plan.ok() && plan.value().generations == answer.generations);
    CHECK(plan.value().arm == answer.arm && plan.value().weight == answer.weight);
    canaries += expected;
  }
  CHECK(canaries > 60 && canaries < 140);
  Request anonymous = request_of(queries, 5);
  CHECK(answer_of(router, anonymous).arm == Arm::control);
  world.table.version = 2;
  world.table.consumers[0].canary_share = 1;
  CHECK(router.publish(world.table).ok());
  CHECK(answer_of(router, anonymous).arm == Arm::control); // without a key even a share of 1
  anonymous.weight = 0;
  anonymous.user_hash = item_hash("user1");
  CHECK_EQ(answer_of(router, anonymous).weight, 0.0); // an override knows no canary
}

TEST(router_closed_slot_keeps_its_counters) {
  World world(0);
  world.table.consumers.push_back(world.table.consumers[0]);
  Router router;
  CHECK(router.publish(world.table).ok());
  const auto queries = world.queries();
  answer_of(router, request_of(queries, 5));
  world.table.version = 2;
  world.table.consumers[0] = Consumer{};
  world.table.consumers[0].closed = true;
  CHECK(router.publish(world.table).ok());
  Request request = request_of(queries, 5);
  CHECK(router.search(request).error().code == Code::not_found);
  CHECK(router.plan(0, 0).error().code == Code::not_found);
  CHECK_EQ(router.counters(0).value().queries, std::uint64_t{1});
  request.slot = 1;
  CHECK(router.search(request).ok());
}

TEST(router_says_which_vector_is_missing) {
  const World world(0.5);
  Router router;
  CHECK(router.publish(world.table).ok());
  const std::vector<QueryVector> source_only = {{3, world.old_query}, {4, world.new_query}};
  const Answer answer = answer_of(router, request_of(source_only, 5));
  CHECK_EQ(answer.missing_generation, 5);
  CHECK(answer.ids.empty());
  CHECK_EQ(answer.table_version, std::uint64_t{1});
  CHECK_EQ(router.counters(0).value().queries, std::uint64_t{0});
  Request at_source = request_of(source_only, 5);
  at_source.weight = 0; // the target's vector is not needed then
  CHECK_EQ(answer_of(router, at_source).missing_generation, -1);
}

TEST(router_refuses_bad_requests_and_counts_none) {
  const World world(0);
  Router router;
  const auto queries = world.queries();
  CHECK(router.search(request_of(queries, 5)).error().code == Code::unavailable);
  CHECK(router.plan(0, 0).error().code == Code::unavailable);
  CHECK(router.publish(world.table).ok());
  CHECK(router.search(request_of(queries, 0)).error().code == Code::invalid_argument);
  CHECK(router.search(request_of(queries, max_k + 1)).error().code == Code::invalid_argument);
  Request request = request_of(queries, 5);
  request.slot = 1;
  CHECK(router.search(request).error().code == Code::not_found);
  CHECK(router.plan(1, 0).error().code == Code::not_found);
  CHECK(router.counters(1).error().code == Code::not_found);
  for (const double weight : {-0.5, 1.5, std::nan("")}) {
    request = request_of(queries, 5);
    request.weight = weight;
    CHECK(router.search(request).error().code == Code::invalid_argument);
  }
  std::vector<float> bad = world.old_query;
  bad.pop_back();
  const std::vector<QueryVector> short_query = {{3, bad}};
  CHECK(router.search(request_of(short_query, 5)).error().code == Code::invalid_argument);
  bad.push_back(std::nanf(""));
  const std::vector<QueryVector> nan_query = {{3, bad}};
  CHECK(router.search(request_of(nan_query, 5)).error().code == Code::invalid_argument);
  bad.assign(old_dim, 0.0f);
  const std::vector<QueryVector> zero_query = {{3, bad}};
  CHECK(router.search(request_of(zero_query, 5)).error().code == Code::invalid_argument);
  CHECK_EQ(router.counters(0).value().queries, std::uint64_t{0});
}

TEST(router_weight_for_a_consumer_without_target_is_refused) {
  World world(0);
  world.table.consumers[0].target = -1;
  Router router;
  CHECK(router.publish(world.table).ok());
  const auto queries = world.queries();
  Request request = request_of(queries, 5);
  request.weight = 1;
  CHECK(router.search(request).error().code == Code::failed_precondition);
  request.weight = 0;
  CHECK(router.search(request).ok());
}

TEST(router_deadline_gives_what_was_found_or_an_error) {
  const World world(0.5, 2);
  Router router(&ticking_clock);
  CHECK(router.publish(world.table).ok());
  const auto queries = world.queries();
  Request request = request_of(queries, 5);
  const auto run = [&](std::uint64_t ticks_until_late) {
    ticks().store(0);
    request.deadline_ns = ticks_until_late;
    return router.search(request);
  };
  CHECK(run(1).error().code == Code::deadline_exceeded);
  // Readings: 1 at the start, then one before each of 4 shards, one before the scoring by id.
  auto result = run(3);
  CHECK(result.ok() && result.value().partial);
  CHECK_EQ(result.value().shards_answered, 1u);
  CHECK_EQ(result.value().shards_asked, 4u);
  Vectors first_shard = world.old_items;
  std::erase_if(first_shard, [](const auto& item) { return item.first % 2 != 0; });
  auto expected = nearest(first_shard, world.old_query, 5);
  for (auto& near : expected) near.distance = (*world.calibration)(near.distance);
  check_answer(result.value(), expected); // the source's score alone
  result = run(6);
  CHECK(result.ok() && result.value().partial); // all shards answered, scores are missing
  CHECK_EQ(result.value().shards_answered, 4u);
  result = run(7);
  CHECK(result.ok() && !result.value().partial);
  check_answer(result.value(), blended_nearest(world.old_items, world.old_query, world.new_items,
                                               world.new_query, 0.5, world.calibration.get(), 5));
  const auto counters = router.counters(0).value();
  CHECK_EQ(counters.queries, std::uint64_t{4});
  CHECK_EQ(counters.errors, std::uint64_t{1});
  CHECK_EQ(counters.partial, std::uint64_t{2});
}

TEST(router_counters_survive_the_table_and_skip_overrides) {
  World world(0);
  Router router;
  CHECK(router.publish(world.table).ok());
  const auto queries = world.queries();
  for (int i = 0; i < 3; ++i) answer_of(router, request_of(queries, 5));
  world.table.version = 2;
  world.table.consumers.push_back(world.table.consumers[0]);
  CHECK(router.publish(world.table).ok());
  Request request = request_of(queries, 5);
  request.weight = 1;
  answer_of(router, request); // a shadow query
  request.weight = no_override;
  request.filter = std::span<const std::int64_t>{};
  answer_of(router, request); // empty
  CHECK_EQ(router.counters(0).value().queries, std::uint64_t{4});
  CHECK_EQ(router.counters(0).value().empty, std::uint64_t{1});
  CHECK(router.counters(0).value().latency_sum_ns > 0);
  CHECK_EQ(router.counters(1).value().queries, std::uint64_t{0});
}
