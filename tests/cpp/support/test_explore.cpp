// The explorer finds what it is for: a lost update, a lost wake-up; and counts schedules as it should.
#include "support/explored.h"

#include <memory>
#include <set>

#include "check.h"

using namespace embedcore::test;

namespace {

struct Shared {
  Explored::Atomic<int> a{0}, b{0};
  Explored::Atomic<std::uint32_t> word{0};
  int plain = 0;
};

} // namespace

TEST(explorer_finds_a_lost_update) {
  if (!can_explore) return;
  std::set<int> ends;
  const auto result = explore([&](Program& program) {
    auto shared = std::make_shared<Shared>();
    for (int t = 0; t < 2; ++t) program.thread([shared] { shared->a.store(shared->a.load() + 1); });
    program.finally([shared, &ends] { ends.insert(shared->a.load()); });
  });
  CHECK(result.complete);
  CHECK(ends == (std::set<int>{1, 2}));
}

TEST(explorer_runs_independent_threads_once) {
  if (!can_explore) return;
  const auto result = explore([](Program& program) {
    auto shared = std::make_shared<Shared>();
    program.thread([shared] { shared->a.fetch_add(1); });
    program.thread([shared] { shared->b.fetch_add(1); });
    program.finally([shared] { CHECK_EQ(shared->a.load() + shared->b.load(), 2); });
  });
  CHECK(result.complete);
  CHECK_EQ(result.schedules, std::size_t{1});
}

TEST(explorer_runs_all_orders_of_dependent_steps) {
  if (!can_explore) return;
  std::set<int> orders;
  const auto result = explore([&](Program& program) {
    auto shared = std::make_shared<Shared>();
    for (int t = 1; t <= 3; ++t) {
      program.thread([shared, t] { // not atomic as a whole: the old value tells who was before
        const int before = shared->a.fetch_add(t);
        shared->plain = 10 * shared->plain + t;
        CHECK(before >= 0);
      });
    }
    program.finally([shared, &orders] { orders.insert(shared->plain); });
  });
  CHECK(result.complete);
  CHECK_EQ(result.schedules, std::size_t{6});
  CHECK_EQ(orders.size(), std::size_t{6});
}

TEST(explorer_finds_store_buffering_outcomes_of_interleaving) {
  if (!can_explore) return;
  std::set<int> ends;
  const auto result = explore([&](Program& program) {
    auto shared = std::make_shared<Shared>();
    auto read = std::make_shared<std::array<int, 2>>();
    program.thread([=] {
      shared->a.store(1);
      (*read)[0] = shared->b.load();
    });
    program.thread([=] {
      shared->b.store(1);
      (*read)[1] = shared->a.load();
    });
    program.finally([=, &ends] { ends.insert(10 * (*read)[0] + (*read)[1]); });
  });
  CHECK(result.complete);
  CHECK(ends == (std::set<int>{1, 10, 11})); // never both 0: operations are in one order
}

TEST(explorer_finds_a_lost_wake_up) {
  if (!can_explore) return;
  const auto result = explore([](Program& program) {
    auto shared = std::make_shared<Shared>();
    program.thread([shared] {
      // The key is taken after the look at the condition: too late.
      if (shared->a.load() == 0) Explored::wait(shared->word, shared->word.load(), {});
    });
    program.thread([shared] {
      shared->a.store(1);
      shared->word.fetch_add(1);
      Explored::wake_all(shared->word);
    });
  });
  CHECK(result.complete);
  CHECK(result.deadlocks > 0);
}
