// The router against the exact answer: weights, shards, filters, canary.
#include "serving/router.h"

#include <algorithm>
#include <string>

#include "check.h"
#include "common/xxhash.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::serving;
using namespace embedcore::test;

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
    for (const std::vector<std::int64_t>& bad : {std::vector<std::int64_t>{5, 4}, {4, 5, 5, 6}}) {
      request.filter = bad;
      CHECK(router.search(request).error().code == Code::invalid_argument);
    }
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
