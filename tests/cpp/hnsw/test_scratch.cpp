#include "hnsw/scratch.h"

#include <random>
#include <set>
#include <thread>

#include "check.h"

using namespace embedcore::hnsw;

TEST(the_visited_set_agrees_with_a_set_grows_and_clears) {
  std::mt19937 random(90);
  Visited visited;
  visited.reserve(100);
  for (int round = 0; round < 5; ++round) {
    std::set<Slot> expected;
    for (int i = 0; i < 2000; ++i) {
      const auto slot = static_cast<Slot>(random() % (round == 3 ? 1000000 : 5000));
      CHECK_EQ(visited.insert(slot), expected.insert(slot).second);
    }
    visited.clear();
  }
}

TEST(a_scratch_is_kept_for_the_next_walk_and_starts_clean) {
  ScratchPool pool;
  CHECK_EQ(pool.bytes(), std::size_t{0});
  const Scratch* first = nullptr;
  {
    const ScratchPool::Lease lease(pool, 10000);
    first = &*lease;
    lease->visited.insert(77);
    lease->died.push_back(5);
    lease->hops = 3;
  }
  CHECK(pool.bytes() >= 10000 / 8);
  const ScratchPool::Lease again(pool, 10000);
  CHECK(&*again == first);
  CHECK(again->visited.insert(77));
  CHECK(again->died.empty());
  CHECK_EQ(again->hops, std::uint64_t{0});
  const ScratchPool::Lease other(pool, 10);
  CHECK(&*other != first);
}

TEST(many_threads_share_the_pool) {
  ScratchPool pool;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const ScratchPool::Lease lease(pool, 1000);
        lease->fresh.push_back(1); // a shared one would be a race
        lease->fresh.clear();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(pool.bytes() < 1000000);
}
