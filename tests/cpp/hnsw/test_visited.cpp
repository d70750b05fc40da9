#include "hnsw/visited.h"

#include <random>
#include <set>

#include "check.h"

using namespace embedcore::hnsw;

TEST(the_visited_set_agrees_with_a_set_and_clears) {
  std::mt19937 random(90);
  Visited visited;
  for (int round = 0; round < 6; ++round) {
    // Limits go up and down; in round 3 more nodes are met than the log holds.
    const Slot limit = round == 3 ? 1000000 : 3000 + 1000 * static_cast<Slot>(round % 3);
    visited.begin(limit, 16);
    std::set<Slot> expected;
    for (int i = 0; i < (round == 3 ? 30000 : 4000); ++i) {
      const auto slot = static_cast<Slot>(random() % limit);
      CHECK_EQ(visited.insert(slot), expected.insert(slot).second);
    }
    visited.clear();
  }
}

TEST(slots_from_the_limit_on_are_never_new) {
  Visited visited;
  for (const Slot limit : {0u, 1u, 31u, 32u, 33u, 1000u, 1024u}) {
    visited.begin(limit, 16);
    for (const Slot beyond : {limit, limit + 1, limit + 31, limit + 100000, no_slot})
      CHECK(!visited.insert(beyond));
    for (Slot slot = 0; slot < limit; ++slot) CHECK(visited.insert(slot));
    for (Slot slot = 0; slot < limit; ++slot) CHECK(!visited.insert(slot));
    visited.clear();
  }
}

TEST(clearing_leaves_nothing_of_an_earlier_limit) {
  Visited visited;
  for (const Slot limit : {64u, 96u, 65u, 31u}) {
    visited.begin(limit, 16);
    visited.clear();
  }
  visited.begin(2000, 16);
  for (Slot slot = 0; slot < 2000; ++slot) CHECK(visited.insert(slot));
}

TEST(a_walk_borrows_the_set_and_gives_it_back) {
  for (const bool overflows : {false, true}) {
    Visited visited;
    visited.begin(500, 16);
    CHECK(visited.insert(3));
    CHECK(visited.insert(40));
    Walk walk{};
    visited.lend(walk);
    CHECK_EQ(walk.limit, 500u);
    CHECK_EQ(walk.log_size, std::size_t{2});
    CHECK_EQ(walk.fresh, std::size_t{2});
    CHECK(walk.log_capacity >= 2 * 16);
    CHECK(!walk.overflowed);
    const auto marked = [&](Slot slot) { return (walk.seen[slot / 32] >> slot % 32 & 1u) != 0; };
    CHECK(marked(3) && marked(40) && marked(500) && !marked(41));
    // As a kernel does: marks, logs, and begins the log anew when it is full.
    walk.seen[100 / 32] |= 1u << 100 % 32;
    if (overflows) {
      walk.overflowed = true;
      walk.log_size = 0;
    }
    walk.log[walk.log_size++] = 100;
    visited.take_back(walk);
    CHECK(!visited.insert(100));
    CHECK(!visited.insert(3));
    CHECK(visited.insert(7));
    visited.clear();
    visited.begin(500, 16);
    for (const Slot slot : {3u, 7u, 40u, 100u}) CHECK(visited.insert(slot));
  }
}

TEST(a_log_has_room_for_two_large_steps) {
  Visited visited;
  visited.begin(10, 100000);
  Walk walk{};
  visited.lend(walk);
  CHECK(walk.log_capacity >= 200000);
}
