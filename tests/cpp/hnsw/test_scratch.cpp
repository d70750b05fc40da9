#include "hnsw/scratch.h"

#include <thread>

#include "check.h"

using namespace embedcore::hnsw;

TEST(a_scratch_is_kept_for_the_next_walk_and_starts_clean) {
  ScratchPool pool;
  CHECK_EQ(pool.bytes(), std::size_t{0});
  const Scratch* first = nullptr;
  {
    const ScratchPool::Lease lease(pool);
    first = &*lease;
    lease->visited.begin(10000, 16);
    lease->visited.insert(77);
    lease->died.push_back(5);
    lease->hops = 3;
  }
  CHECK(pool.bytes() >= 10000 / 8);
  const ScratchPool::Lease again(pool);
  CHECK(&*again == first);
  again->visited.begin(10000, 16);
  CHECK(again->visited.insert(77));
  CHECK(again->died.empty());
  CHECK_EQ(again->hops, std::uint64_t{0});
  const ScratchPool::Lease other(pool);
  CHECK(&*other != first);
}

TEST(a_scratch_is_not_kept_when_an_exception_ends_the_walk) {
  ScratchPool pool;
  try {
    const ScratchPool::Lease lease(pool);
    lease->fresh.resize(1000);
    throw 1;
  } catch (int) {
    const ScratchPool::Lease other(pool); // which is not what is under way here
    CHECK(other->fresh.empty());
    other->fresh.resize(10);
  }
  const ScratchPool::Lease again(pool);
  CHECK_EQ(again->fresh.size(), std::size_t{10});
}

TEST(many_threads_share_the_pool) {
  ScratchPool pool;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const ScratchPool::Lease lease(pool);
        lease->fresh.push_back(1); // a shared one would be a race
        lease->fresh.clear();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(pool.bytes() < 1000000);
}
