// Replacing the table: refusals change nothing, the old table is let go of, and searches beside
// publishers see whole tables only (run under TSan and ASan as well).
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "check.h"
#include "fixture.h"
#include "serving/router.h"

using namespace embedcore;
using namespace embedcore::serving;
using namespace embedcore::test;

namespace {

// A table whose only item has the table's version as its id, in a generation of that number.
RoutingTable versioned(std::uint64_t version) {
  const auto id = static_cast<std::int64_t>(version);
  RoutingTable table;
  table.version = version;
  table.generations.push_back(generation_of(id, {{id, {1, 2, 3}}}, 3));
  table.consumers.push_back(consumer_of(0, -1, 0, 1));
  return table;
}

const std::vector<float> query = {1, 0, 0};

} // namespace

TEST(publish_refused_changes_nothing) {
  Router router;
  CHECK_EQ(router.version(), std::uint64_t{0});
  CHECK(router.publish(versioned(2)).ok());
  RoutingTable bad = versioned(3);
  bad.consumers[0].weight = 0.5;
  CHECK(router.publish(bad).error().code == Code::invalid_argument);
  CHECK_EQ(router.version(), std::uint64_t{2});
  CHECK(router.publish(versioned(2)).error().code == Code::failed_precondition);
  CHECK(router.publish(versioned(1)).error().code == Code::failed_precondition);
  CHECK_EQ(router.version(), std::uint64_t{2});
  CHECK(router.publish(versioned(3)).ok());
  CHECK_EQ(router.version(), std::uint64_t{3});
}

TEST(publish_lets_go_of_the_old_indexes) {
  Router router;
  RoutingTable first = versioned(1);
  const std::weak_ptr<hnsw::Index> watched = first.generations[0].shards[0];
  CHECK(router.publish(std::move(first)).ok());
  CHECK(!watched.expired());
  CHECK(router.publish(versioned(2)).ok());
  CHECK(watched.expired());
}

TEST(publish_beside_searches) {
  Router router;
  constexpr std::uint64_t tables = 300;
  CHECK(router.publish(versioned(1)).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0};
  std::atomic<int> answered{0};
  std::vector<std::thread> readers;
  for (int r = 0; r < 3; ++r) {
    readers.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        const auto plan = router.plan(0, 0);
        if (!plan.ok()) {
          torn.fetch_add(1);
          continue;
        }
        const std::vector<QueryVector> queries = {{plan.value().generations[0], query}};
        Request request;
        request.vectors = queries;
        request.k = 3;
        const auto result = router.search(request);
        if (!result.ok()) {
          torn.fetch_add(1);
          continue;
        }
        const Answer& answer = result.value();
        const auto version = static_cast<std::int64_t>(answer.table_version);
        // Either the table of the plan answered, or a newer one said which vector it needs.
        const bool whole =
            answer.missing_generation >= 0
                ? answer.missing_generation == version && answer.table_version > plan.value().table_version
                : answer.ids == std::vector<std::int64_t>{version};
        if (!whole) torn.fetch_add(1);
        answered.fetch_add(1);
      }
    });
  }
  // Two publishers race for each version: exactly one wins it.
  std::atomic<std::uint64_t> won{0};
  std::vector<std::thread> publishers;
  for (int p = 0; p < 2; ++p) {
    publishers.emplace_back([&] {
      for (std::uint64_t version = 2; version <= tables; ++version) {
        const Status status = router.publish(versioned(version));
        if (status.ok()) won.fetch_add(1);
        CHECK(status.ok() || status.error().code == Code::failed_precondition);
      }
    });
  }
  for (auto& t : publishers) t.join();
  while (answered.load() < 100) std::this_thread::yield();
  stop.store(true);
  for (auto& t : readers) t.join();
  CHECK_EQ(torn.load(), 0);
  CHECK_EQ(won.load(), tables - 1);
  CHECK_EQ(router.version(), tables);
}
