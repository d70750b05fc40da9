// What the router does not answer, or only in part, and what it counts: closed slots, missing vectors, bad
// requests, deadlines.
#include <cmath>
#include <vector>

#include "check.h"
#include "serving/router.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::serving;
using namespace embedcore::test;

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
