// Nothing is freed while a reader that could hold it is pinned, everything is freed after; and readers
// of a pointer that writers keep replacing never touch freed memory (a heap error under ASan, a race
// under TSan).
#include "common/epoch.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "check.h"

using embedcore::EpochDomain;

TEST(epoch_frees_at_once_without_readers) {
  EpochDomain domain;
  int freed = 0;
  domain.retire([&] { ++freed; });
  CHECK_EQ(freed, 0); // queued only
  CHECK_EQ(domain.pending(), std::size_t{1});
  CHECK_EQ(domain.try_reclaim(), std::size_t{1});
  CHECK_EQ(freed, 1);
  CHECK_EQ(domain.pending(), std::size_t{0});
}

TEST(epoch_holds_back_what_a_pinned_reader_could_see) {
  EpochDomain domain;
  int freed = 0;
  {
    const auto guard = domain.pin();
    domain.retire([&] { ++freed; });
    CHECK_EQ(domain.try_reclaim(), std::size_t{0});
    CHECK_EQ(freed, 0);
  }
  CHECK_EQ(domain.try_reclaim(), std::size_t{1});
  CHECK_EQ(freed, 1);
}

TEST(epoch_later_reader_does_not_hold_back_earlier_retirement) {
  EpochDomain domain;
  int early = 0;
  int late = 0;
  domain.retire([&] { ++early; });
  const auto guard = domain.pin();
  domain.retire([&] { ++late; });
  CHECK_EQ(domain.try_reclaim(), std::size_t{1});
  CHECK_EQ(early, 1);
  CHECK_EQ(late, 0);
}

TEST(epoch_oldest_of_nested_guards_decides) {
  EpochDomain domain;
  int freed = 0;
  auto outer = std::make_unique<EpochDomain::Guard>(domain.pin());
  domain.retire([&] { ++freed; });
  auto inner = std::make_unique<EpochDomain::Guard>(domain.pin());
  domain.try_reclaim();
  CHECK_EQ(freed, 0);
  inner.reset();
  domain.try_reclaim();
  CHECK_EQ(freed, 0);
  outer.reset();
  domain.try_reclaim();
  CHECK_EQ(freed, 1);
}

TEST(epoch_guard_moves_with_its_hold) {
  EpochDomain domain;
  int freed = 0;
  auto held = std::make_unique<EpochDomain::Guard>(domain.pin());
  domain.retire([&] { ++freed; });
  auto moved = std::make_unique<EpochDomain::Guard>(std::move(*held));
  held.reset(); // an emptied guard releases nothing
  domain.try_reclaim();
  CHECK_EQ(freed, 0);
  moved.reset();
  domain.try_reclaim();
  CHECK_EQ(freed, 1);
}

TEST(epoch_more_guards_than_slots_of_a_block) {
  EpochDomain domain;
  int freed = 0;
  std::vector<EpochDomain::Guard> guards;
  for (int i = 0; i < 150; ++i) guards.push_back(domain.pin());
  domain.retire([&] { ++freed; });
  while (!guards.empty()) {
    domain.try_reclaim();
    CHECK_EQ(freed, 0);
    guards.pop_back();
  }
  domain.try_reclaim();
  CHECK_EQ(freed, 1);
}

TEST(epoch_destruction_frees_the_rest_and_what_that_retires) {
  int freed = 0;
  {
    EpochDomain domain;
    domain.retire([&] {
      ++freed;
      domain.retire([&] { ++freed; });
    });
  }
  CHECK_EQ(freed, 2);
}

TEST(epoch_runs_the_second_callback_when_those_who_saw_the_first_have_left) {
  EpochDomain domain;
  int first = 0;
  int second = 0;
  domain.retire([&] { ++first; }, [&] { ++second; });
  const auto before = std::make_unique<EpochDomain::Guard>(domain.pin());
  CHECK_EQ(domain.try_reclaim(), std::size_t{1});
  CHECK_EQ(first, 1);
  CHECK_EQ(domain.pending(), std::size_t{1});
  const auto after = domain.pin(); // too late to have seen anything
  CHECK_EQ(domain.try_reclaim(), std::size_t{0});
  CHECK_EQ(second, 0);
  *before = EpochDomain::Guard(domain.pin()); // the old one goes
  CHECK_EQ(domain.try_reclaim(), std::size_t{1});
  CHECK_EQ(first, 1);
  CHECK_EQ(second, 1);
  CHECK_EQ(domain.pending(), std::size_t{0});
}

TEST(epoch_synchronize_waits_for_the_readers_of_before) {
  EpochDomain domain;
  std::atomic<bool> pinned{false};
  std::atomic<bool> leaving{false};
  std::atomic<bool> freed{false};
  std::thread reader([&] {
    const auto guard = domain.pin();
    pinned.store(true);
    while (!leaving.load()) std::this_thread::yield();
    CHECK(!freed.load());
  });
  while (!pinned.load()) std::this_thread::yield();
  domain.retire([&] { freed.store(true); });
  std::thread writer([&] {
    domain.synchronize();
    CHECK(leaving.load());
    CHECK(freed.load());
  });
  for (int i = 0; i < 100; ++i) std::this_thread::yield();
  CHECK(!freed.load());
  leaving.store(true);
  reader.join();
  writer.join();
}

namespace {

// Poisoned on destruction, so that a use after free is seen without a sanitizer too.
struct Payload {
  explicit Payload(int v) : value(v), check(~v) {}
  ~Payload() {
    value = 0;
    check = 0;
  }
  Payload(const Payload&) = delete;
  Payload& operator=(const Payload&) = delete;
  volatile int value;
  volatile int check;
};

} // namespace

// The pointer is published with release and read with acquire only: the domain asks for no more.
TEST(epoch_readers_beside_writers) {
  EpochDomain domain;
  std::atomic<Payload*> current{new Payload(0)};
  std::atomic<int> torn{0};
  std::atomic<int> freed{0};
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; ++r) {
    threads.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        const auto guard = domain.pin();
        const Payload* p = current.load(std::memory_order_acquire);
        for (int i = 0; i < 4; ++i) {
          if (p->value != ~p->check) torn.fetch_add(1);
        }
      }
    });
  }
  constexpr int replacements = 2000;
  std::vector<std::thread> writers;
  for (int w = 0; w < 2; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 1; i <= replacements; ++i) {
        Payload* old = current.exchange(new Payload(i * 2 + w), std::memory_order_acq_rel);
        domain.retire([old, &freed] {
          delete old;
          freed.fetch_add(1);
        });
        if (i % 16 == 0) domain.try_reclaim();
        if (i % 500 == 0) domain.synchronize();
      }
    });
  }
  for (auto& t : writers) t.join();
  stop.store(true);
  for (auto& t : threads) t.join();
  domain.synchronize();
  CHECK_EQ(torn.load(), 0);
  CHECK_EQ(freed.load(), 2 * replacements);
  CHECK_EQ(domain.pending(), std::size_t{0});
  delete current.load();
}
