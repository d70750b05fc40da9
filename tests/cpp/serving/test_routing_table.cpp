// Each rule of a table: one broken rule, one refusal, and a message that names it.
#include "serving/routing_table.h"

#include <functional>
#include <limits>
#include <string>

#include "check.h"
#include "fixture.h"
#include "serving/table_builder.h"

using namespace embedcore;
using namespace embedcore::serving;
using namespace embedcore::test;

namespace {

RoutingTable good_table() {
  RoutingTable table;
  table.version = 1;
  static const std::vector<Generation> built = {generation_of(1, random_vectors(3, 4, 1), 4),
                                                generation_of(2, random_vectors(3, 6, 2), 6, 2)};
  table.generations = built;
  table.consumers.push_back(consumer_of(0, 1, 0.5, 2));
  table.consumers.push_back(consumer_of(0, -1, 0, 2));
  return table;
}

} // namespace

TEST(table_good_is_accepted) { CHECK(validate(good_table()).ok()); }

TEST(table_each_broken_rule_is_refused_by_name) {
  struct Broken {
    const char* expected; // part of the message
    std::function<void(RoutingTable&)> change;
  };
  const Broken all[] = {
      {"version", [](auto& t) { t.version = 0; }},
      {"at least one generation", [](auto& t) { t.generations.clear(); }},
      {"numbered 1 or higher", [](auto& t) { t.generations[0].number = 0; }},
      {"generation 2 is in the table twice", [](auto& t) { t.generations[0].number = 2; }},
      {"0 shards", [](auto& t) { t.generations[0].shards.clear(); }},
      {"3 shards", [](auto& t) { t.generations[0].shards.resize(3, t.generations[0].shards[0]); }},
      {"without an index", [](auto& t) { t.generations[1].shards[1] = nullptr; }},
      {"different dimension", [](auto& t) { t.generations[1].shards[1] = t.generations[0].shards[0]; }},
      {"1025 consumers", [](auto& t) { t.consumers.resize(1025, t.consumers[0]); }},
      {"position 2 of 2", [](auto& t) { t.consumers[0].source = 2; }},
      {"position -1 of 2", [](auto& t) { t.consumers[0].source = -1; }},
      {"target position 2", [](auto& t) { t.consumers[0].target = 2; }},
      {"target position -2", [](auto& t) { t.consumers[0].target = -2; }},
      {"as source and target", [](auto& t) { t.consumers[0].target = 0; }},
      {"weight 1.5", [](auto& t) { t.consumers[0].weight = 1.5; }},
      {"weight -0.1", [](auto& t) { t.consumers[0].weight = -0.1; }},
      {"weight nan", [](auto& t) { t.consumers[0].weight = std::numeric_limits<double>::quiet_NaN(); }},
      {"canary share 2", [](auto& t) { t.consumers[0].canary_share = 2; }},
      {"no target", [](auto& t) { t.consumers[1].weight = 0.1; }},
      {"no target", [](auto& t) { t.consumers[1].canary_share = 0.05; }},
      {"1 ef_search values for 2", [](auto& t) { t.consumers[1].ef_search.pop_back(); }},
      {"ef_search 0", [](auto& t) { t.consumers[1].ef_search[1] = 0; }},
  };
  for (const Broken& broken : all) {
    RoutingTable table = good_table();
    broken.change(table);
    const Status status = validate(table);
    CHECK(status.error().code == Code::invalid_argument);
    if (status.error().message.find(broken.expected) == std::string::npos) {
      fail(__FILE__, __LINE__, std::string(broken.expected) + " is not in: " + status.error().message);
    }
  }
}

TEST(builder_resolves_numbers_to_positions) {
  TableBuilder builder(7);
  builder.add_generation(4, generation_of(4, random_vectors(2, 4, 1), 4).shards);
  builder.add_generation(9, generation_of(9, random_vectors(2, 4, 2), 4).shards);
  ConsumerSpec spec;
  spec.source = 9;
  spec.target = 4;
  spec.weight = 0.25;
  spec.ef_search = {{4, 40}, {9, 90}};
  CHECK_EQ(builder.add_consumer(spec), std::size_t{0});
  const auto table = builder.build();
  CHECK(table.ok());
  if (!table.ok()) return;
  CHECK_EQ(table.value().version, std::uint64_t{7});
  const Consumer& consumer = table.value().consumers[0];
  CHECK_EQ(consumer.source, 1);
  CHECK_EQ(consumer.target, 0);
  CHECK(consumer.ef_search == (std::vector<std::uint32_t>{40, 90}));
}

TEST(builder_refuses_unknown_numbers_and_missing_breadth) {
  for (const int broken : {0, 1, 2}) {
    TableBuilder builder(1);
    builder.add_generation(1, generation_of(1, random_vectors(2, 4, 1), 4).shards);
    builder.add_generation(2, generation_of(2, random_vectors(2, 4, 2), 4).shards);
    ConsumerSpec spec;
    spec.source = broken == 0 ? 3 : 1;
    spec.target = broken == 1 ? 3 : 2;
    spec.ef_search = {{1, 10}, {3, 10}};
    if (broken != 2) spec.ef_search[2] = 10;
    builder.add_consumer(spec);
    const auto table = builder.build();
    CHECK(!table.ok() && table.error().code == Code::invalid_argument);
  }
}
