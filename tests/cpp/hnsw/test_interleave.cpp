// The exhaustive scheduler itself: it meets every order, and finds what only some orders show.
#include "support/interleave.h"

#include "check.h"

using namespace embedcore::test;

TEST(the_scheduler_meets_every_order) {
  Model model;
  Atomic<std::uint32_t> x;
  std::set<std::uint64_t> ends;
  // x = 2x + 1 by two steps each: what comes of it depends on the order.
  const Model::Thread doubles = [&] { return x.store(2 * x.load() + 1), 0; };
  const auto found = model.explore({doubles, doubles, doubles}, [&](const Model::Outcome&) {
    ends.insert(x.peek());
    return std::string();
  });
  CHECK((ends == std::set<std::uint64_t>{1, 3, 7}));
  CHECK_EQ(found.deadlocks, std::size_t{0});
}

TEST(the_scheduler_finds_a_lost_update_and_none_where_there_is_none) {
  for (const bool atomic : {false, true}) {
    Model model;
    Atomic<std::uint32_t> x;
    const Model::Thread adds = [&] {
      if (atomic) return std::uint64_t{x.fetch_add(1)};
      const std::uint32_t before = x.load();
      x.store(before + 1);
      return std::uint64_t{before};
    };
    const auto found = model.explore({adds, adds}, [&](const Model::Outcome&) {
      return x.peek() == 2 ? std::string() : std::string("lost");
    });
    CHECK_EQ(found.failures.empty(), atomic);
  }
}

TEST(the_scheduler_finds_a_deadlock) {
  Model model;
  Atomic<std::uint32_t> a;
  Atomic<std::uint32_t> b;
  const auto takes = [](Atomic<std::uint32_t>& first, Atomic<std::uint32_t>& second) {
    return [&] {
      for (auto* lock : {&first, &second}) {
        for (std::uint32_t none = 0; !lock->compare_exchange_strong(none, 1); none = 0)
          lock->await([](std::uint32_t v) { return v == 0; });
      }
      second.store(0);
      first.store(0);
      return std::uint64_t{0};
    };
  };
  const auto fine = [](const Model::Outcome&) { return std::string(); };
  CHECK_EQ(model.explore({takes(a, b), takes(a, b)}, fine).deadlocks, std::size_t{0});
  CHECK(model.explore({takes(a, b), takes(b, a)}, fine).deadlocks != 0);
}
