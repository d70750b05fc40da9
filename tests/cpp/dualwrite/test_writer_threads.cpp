// A DualWriter with its threads: many producers, lanes that come and go, a dead index, the end.
#include <algorithm>
#include <thread>

#include "dualwrite/writer_world.h"
#include "hnsw/index.h"

using namespace embedcore::test; // NOLINT
using embedcore::Code;
using Items = std::map<std::int64_t, float>;

TEST(threads_every_lane_sees_every_write_once_in_order_per_item) {
  constexpr int producers = 3, rounds = 400;
  std::vector<std::shared_ptr<MapTarget>> targets;
  std::vector<LaneSpec> lanes;
  for (int i = 0; i < 3; ++i) lanes.push_back(lane_to(targets.emplace_back(std::make_shared<MapTarget>())));
  const auto writer = open(std::move(lanes), options(16, 2));
  std::vector<std::thread> threads;
  // Each producer has ids of its own, so that the oracle knows the order of each item's versions.
  for (int p = 0; p < producers; ++p) {
    threads.emplace_back([&, p] {
      for (int round = 1; round <= rounds; ++round) {
        const auto version = static_cast<float>(round);
        CHECK(upsert(*writer, {10 * p, 10 * p + 1 + round % 3}, version, 3).ok());
        if (round % 7 == 0) CHECK(remove(*writer, {10 * p + 1}).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::uint64_t all = producers * (2 * rounds + rounds / 7);
  CHECK(writer->wait(all).ok());
  for (const auto& target : targets) {
    const auto log = target->log();
    CHECK_EQ(log.size(), all);
    std::map<std::int64_t, float> last;
    for (const auto& [id, version] : log) {
      if (version < 0) continue; // removed
      CHECK(version > last[id]);
      last[id] = version;
    }
    CHECK(target->items() == targets[0]->items());
    CHECK(log == targets[0]->log());
  }
  for (int p = 0; p < producers; ++p) CHECK_EQ(targets[0]->items().at(10 * p), static_cast<float>(rounds));
}

TEST(threads_a_dead_lane_with_a_source_stops_nobody) {
  const auto live = std::make_shared<MapTarget>(), dead = std::make_shared<MapTarget>();
  MapStore store;
  dead->stuck = true;
  const auto writer = open({lane_to(live), lane_to(dead, store.source())}, options(8, 1));
  for (int i = 1; i <= 500; ++i) {
    store.put(static_cast<std::uint64_t>(i), i % 50, static_cast<float>(i));
    CHECK(upsert(*writer, {i % 50}, static_cast<float>(i), 2).ok());
  }
  while (writer->stats(0).value().applied < 500) std::this_thread::yield();
  CHECK_EQ(live->items().size(), std::size_t{50});
  CHECK(writer->stats(1).value().parked);
  Patience little;
  little.timeout = std::chrono::milliseconds(1);
  CHECK(writer->wait(500, little).error().code == Code::deadline_exceeded);
  dead->stuck = false;
  CHECK(writer->wait(500).ok());
  CHECK(dead->items() == live->items());
}

TEST(threads_a_dead_lane_without_a_source_is_said_to_the_producers) {
  const auto dead = std::make_shared<MapTarget>();
  dead->stuck = true;
  const auto writer = open({lane_to(dead)}, options(4, 1));
  Patience little;
  little.timeout = std::chrono::milliseconds(1);
  CHECK(upsert(*writer, {0}, 1, 1).ok());
  while (dead->calls.load() == 0) std::this_thread::yield(); // it has taken that one, and hangs
  for (int i = 1; i <= 4; ++i) CHECK(upsert(*writer, {i}, 1, 1, at_once()).ok());
  CHECK(upsert(*writer, {5}, 1, 1, at_once()).error().code == Code::resource_exhausted);
  CHECK(upsert(*writer, {5}, 1, 1, little).error().code == Code::resource_exhausted);
  int asked = 0;
  Patience asks;
  asks.go_on = [&] { return ++asked < 2; };
  CHECK(upsert(*writer, {1}, 1, 1, asks).error().code == Code::cancelled);
  CHECK_EQ(asked, 2);
  // A waiting producer is told of the end.
  std::thread waiting([&] { CHECK(upsert(*writer, {7}, 1, 1).error().code == Code::unavailable); });
  while (writer->stats().waits < 4) std::this_thread::yield();
  std::thread ending([&] { CHECK(writer->close(false).ok()); });
  waiting.join();
  dead->stuck = false;
  ending.join();
  CHECK(upsert(*writer, {8}, 1, 1).error().code == Code::unavailable);
}

TEST(threads_lanes_come_go_and_swap_while_producers_write) {
  const auto kept = std::make_shared<MapTarget>();
  const auto writer = open({lane_to(kept)}, options(32, 1));
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> written{0};
  std::vector<std::thread> producers;
  for (int p = 0; p < 2; ++p) {
    producers.emplace_back([&, p] {
      for (float version = 1; !stop.load(); ++version) {
        const auto id = 100 * p + static_cast<std::int64_t>(version) % 20;
        CHECK(upsert(*writer, {id}, version, 1).ok());
        written.fetch_add(1);
      }
    });
  }
  std::shared_ptr<MapTarget> current = kept;
  for (int round = 0; round < 40; ++round) {
    auto fresh = std::make_shared<MapTarget>();
    LaneSpec twin = lane_to(fresh);
    twin.vectors_of = 0;
    const std::uint64_t from = writer->stats().accepted;
    const auto lane = writer->attach(twin).value();
    const std::uint64_t start = writer->stats(lane).value().applied;
    CHECK(start >= from);
    while (written.load() < start + 60) std::this_thread::yield();
    if (round % 2 == 0) {
      CHECK(writer->swap(0, fresh, rules()).ok());
      std::swap(current, fresh);
    }
    CHECK(writer->detach(lane).ok());
  }
  stop = true;
  for (std::thread& thread : producers) thread.join();
  CHECK(writer->wait(writer->stats().accepted).ok());
  CHECK_EQ(writer->stats(0).value().successes, writer->stats().accepted);
  CHECK_EQ(writer->stats(0).value().failures, std::uint64_t{0});
  // Every version of every item arrived in its order at the index in use.
  std::map<std::int64_t, float> last;
  for (const auto& [id, version] : current->log()) {
    CHECK(version > last[id]);
    last[id] = version;
  }
  CHECK(writer->close(true).ok());
}

TEST(threads_two_real_indexes_hold_what_was_written) {
  embedcore::hnsw::Config config;
  config.dim = world_dim;
  config.metric = embedcore::hnsw::Metric::l2;
  auto a = embedcore::hnsw::Index::create(config).value(), b = embedcore::hnsw::Index::create(config).value();
  std::vector<LaneSpec> lanes(2);
  lanes[0].target = std::make_shared<IndexTarget>(a);
  lanes[1].target = std::make_shared<IndexTarget>(b);
  lanes[0].rules = lanes[1].rules = config;
  const auto writer = open(std::move(lanes), options(64, 2));
  for (int i = 0; i < 300; ++i) CHECK(upsert(*writer, {i, i + 1000}, static_cast<float>(i), 2).ok());
  CHECK(remove(*writer, {0, 1, 2}).ok());
  CHECK(writer->close(true).ok());
  for (const auto& index : {a, b}) {
    CHECK_EQ(index->size(), std::size_t{597});
    std::array<float, world_dim> vector{};
    const std::array<std::int64_t, 1> id{299};
    CHECK(index->get(id, vector.data()).ok());
    CHECK_EQ(vector[0], 299.0f);
    CHECK(!index->contains(2));
    CHECK(index->check().empty());
  }
}

// Numbers are drawn first and written later, so they come late, and the store shows some before others that
// are lower; the second lane is slow enough to be parked and to join again many times.
TEST(threads_a_slow_lane_parks_and_joins_again_and_loses_nothing) {
  constexpr int producers = 3, rounds = 400, ids = 40;
  const auto quick = std::make_shared<MapTarget>(), slow = std::make_shared<MapTarget>();
  slow->pause = std::chrono::microseconds(200);
  MapStore store;
  const auto writer = open({lane_to(quick), lane_to(slow, store.source())}, options(8, 1));
  std::atomic<std::uint64_t> numbers{0};
  std::vector<std::thread> threads;
  for (int p = 0; p < producers; ++p) {
    threads.emplace_back([&, p] {
      for (int round = 0; round < rounds; ++round) {
        const std::uint64_t number = numbers.fetch_add(1) + 1;
        const auto id = static_cast<std::int64_t>(number * 7 % ids);
        if (round % 5 == p) std::this_thread::yield();
        const bool removes = number % 11 == 0;
        store.put(number, id, removes ? std::nullopt : std::optional(static_cast<float>(number)));
        if (removes)
          CHECK(remove(*writer, {id}, {}, {number}).ok());
        else
          CHECK(upsert(*writer, {id}, static_cast<float>(number), 2, {}, {number}).ok());
        if (round % 100 == 99) CHECK(writer->wait(number).ok()); // the slow lane comes to the head
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::uint64_t last = numbers.load();
  CHECK(writer->wait(last).ok());
  Items oracle;
  for (std::uint64_t number = 1; number <= last; ++number) {
    const auto id = static_cast<std::int64_t>(number * 7 % ids);
    if (number % 11 == 0)
      oracle.erase(id);
    else
      oracle[id] = static_cast<float>(number);
  }
  CHECK(quick->items() == oracle);
  CHECK(slow->items() == oracle);
  CHECK(writer->stats(1).value().parkings > 0);
  CHECK(writer->stats(1).value().caught_up > 0);
  CHECK_EQ(writer->stats(1).value().failures, std::uint64_t{0});
}
