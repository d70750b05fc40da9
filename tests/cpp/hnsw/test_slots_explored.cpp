// Free slots and free runs: against a set, and under all interleavings of small cases.
#include <array>
#include <memory>
#include <random>
#include <set>

#include "check.h"
#include "hnsw/extent.h"
#include "hnsw/free_slots.h"
#include "hnsw/run_stack.h"
#include "support/explored.h"

using namespace embedcore::hnsw;
using namespace embedcore::test;

namespace {

struct StdPolicy {
  template <class T>
  using Atomic = std::atomic<T>;
};

template <class Atomics, std::size_t words>
struct Free {
  Free() { slots.use(bits.data()); }
  std::array<typename Atomics::template Atomic<std::uint64_t>, words> bits{};
  BasicFreeSlots<Atomics> slots;
};

struct Runs {
  [[nodiscard]] std::uint32_t load(std::uint32_t run) const { return below[run].load(); }
  void store(std::uint32_t run, std::uint32_t next) const { below[run].store(next); }
  mutable std::array<Explored::Atomic<std::uint32_t>, 4> below;
};

} // namespace

TEST(free_slots_agree_with_a_set) {
  Free<StdPolicy, 4> free;
  std::set<Slot> expected;
  std::mt19937 random(11);
  for (int step = 0; step < 20000; ++step) {
    CHECK_EQ(free.slots.count(), expected.size());
    CHECK_EQ(free.slots.lowest(), expected.empty() ? no_slot : *expected.begin());
    if (const Slot slot = random() % 256; random() % 2 == 0 && expected.insert(slot).second) {
      free.slots.give(slot);
    } else if (random() % 4 != 0) {
      const Slot taken = free.slots.take();
      CHECK_EQ(taken, expected.empty() ? no_slot : *expected.begin());
      expected.erase(taken);
    } else {
      const Slot end = 1 + random() % 256;
      Slot kept = end;
      while (kept > 0 && expected.erase(kept - 1) != 0) --kept;
      CHECK_EQ(free.slots.take_tail(end), kept);
    }
  }
}

TEST(explored_slots_are_taken_once_and_found_when_they_were_given_before) {
  if (!can_explore) return;
  const auto result = explore([](Program& program) {
    auto free = std::make_shared<Free<Explored, 2>>();
    auto taken = std::make_shared<std::array<Slot, 3>>();
    free->slots.give(70);
    program.thread([=] { (*taken)[0] = free->slots.take(); });
    program.thread([=] {
      free->slots.give(3);
      (*taken)[1] = free->slots.take(); // one is there: nobody else takes two
    });
    program.finally([=] {
      (*taken)[2] = free->slots.take();
      std::multiset<Slot> all(taken->begin(), taken->end());
      CHECK((all == std::multiset<Slot>{3, 70, no_slot}));
      CHECK((*taken)[1] != no_slot);
      CHECK_EQ(free->slots.count(), std::size_t{0});
    });
  });
  CHECK(result.complete);
  CHECK(result.schedules > 1);
}

TEST(explored_a_tail_is_taken_by_one) {
  if (!can_explore) return;
  const auto result = explore([](Program& program) {
    auto free = std::make_shared<Free<Explored, 1>>();
    for (const Slot slot : {4u, 6u, 7u}) free->slots.give(slot);
    auto end = std::make_shared<Slot>();
    auto taken = std::make_shared<std::array<Slot, 2>>();
    program.thread([=] { *end = free->slots.take_tail(8); });
    program.thread([=] {
      for (Slot& slot : *taken) slot = free->slots.take();
    });
    program.finally([=] {
      CHECK_EQ((*taken)[0], 4u);
      // What the taker got is not in the tail, and nothing is lost.
      CHECK((*taken)[1] == (*end == 7 ? 6u : no_slot));
      CHECK(*end == 6 || *end == 7);
      CHECK_EQ(free->slots.count(), std::size_t{0});
    });
  });
  CHECK(result.complete);
  CHECK(result.schedules > 1);
}

TEST(explored_runs_are_popped_once_though_the_same_ones_come_back) {
  if (!can_explore) return;
  const auto result = explore([](Program& program) {
    struct World {
      Runs runs;
      BasicRunStack<Explored> stack;
      std::array<int, 4> owners{};
      void pop_and_keep() {
        if (const auto run = stack.pop(runs)) ++owners[*run];
      }
    };
    auto world = std::make_shared<World>();
    for (const std::uint32_t run : {0u, 1u, 2u}) world->stack.push(run, world->runs);
    program.thread([=] { world->pop_and_keep(); });
    program.thread([=] { // takes two, gives the first back
      const auto first = world->stack.pop(world->runs);
      world->pop_and_keep();
      if (first) world->stack.push(*first, world->runs);
    });
    program.finally([=] {
      for (int i = 0; i < 4; ++i) world->pop_and_keep();
      CHECK((world->owners == std::array<int, 4>{1, 1, 1, 0}));
    });
  });
  CHECK(result.complete);
  CHECK(result.schedules > 1);
}

TEST(an_extent_hands_out_what_is_ready_and_not_what_was_cut_off) {
  Extent extent;
  CHECK(!extent.take(1));
  extent.raise(10);
  CHECK_EQ(*extent.take(3), 0u);
  CHECK_EQ(*extent.take(3), 3u);
  CHECK(!extent.take(5));
  CHECK(!extent.cut(5, 2));
  CHECK(extent.cut(6, 2));
  CHECK_EQ(extent.end(), 2u);
  CHECK(!extent.take(1)); // its memory is being given back
  extent.raise(3);
  CHECK_EQ(*extent.take(1), 2u);
}
