#include "hnsw/writer_gate.h"

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "check.h"
#include "support/interleave.h"

using embedcore::hnsw::WriterGate;

TEST(the_gate_keeps_alone_and_shared_apart) {
  WriterGate gate;
  std::atomic<int> sharing{0};
  std::atomic<int> alone{0};
  std::atomic<int> violations{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        const std::shared_lock lock(gate);
        sharing.fetch_add(1);
        if (alone.load() != 0) violations.fetch_add(1);
        sharing.fetch_sub(1);
      }
    });
  }
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        const std::unique_lock lock(gate);
        if (alone.fetch_add(1) != 0 || sharing.load() != 0) violations.fetch_add(1);
        alone.fetch_sub(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(violations.load(), 0);
}

TEST(a_stream_of_shared_holders_does_not_starve_one_that_wants_to_be_alone) {
  WriterGate gate;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  // Overlapping holders: without priority the gate would hardly ever be empty.
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      while (!stop.load()) {
        const std::shared_lock lock(gate);
        std::this_thread::yield();
      }
    });
  }
  for (int i = 0; i < 100; ++i) {
    const std::unique_lock lock(gate);
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
}

namespace {

// The gate over all interleavings: what each thread does inside shows in two counters.
void explore_gate(std::size_t sharers, std::size_t alones) {
  using namespace embedcore::test;
  Model model;
  embedcore::hnsw::BasicWriterGate<ModelAtomics, 2> gate;
  Atomic<std::uint32_t> sharing;
  Atomic<std::uint32_t> alone;
  std::vector<Model::Thread> threads;
  for (std::size_t i = 0; i < sharers; ++i) {
    threads.push_back([&] {
      gate.lock_shared(); // no guard: the scheduler leaves by exceptions
      sharing.fetch_add(1);
      sharing.fetch_sub(1);
      gate.unlock_shared();
      return std::uint64_t{0};
    });
  }
  for (std::size_t i = 0; i < alones; ++i) {
    threads.push_back([&] {
      gate.lock();
      alone.fetch_add(1);
      alone.fetch_sub(1);
      gate.unlock();
      return std::uint64_t{0};
    });
  }
  const auto found = model.explore(
      threads, [](const Model::Outcome&) { return std::string(); },
      [&] {
        const bool apart = alone.peek() == 0 || (alone.peek() == 1 && sharing.peek() == 0);
        return std::string(apart ? "" : "somebody is beside one who is alone");
      });
  CHECK(found.failures.empty());
  CHECK_EQ(found.deadlocks, std::size_t{0});
  CHECK(found.ends >= 1 && found.states > 50);
}

} // namespace

TEST(the_gate_keeps_alone_and_shared_apart_in_every_order) {
  explore_gate(1, 1);
  explore_gate(2, 1);
  explore_gate(1, 2);
}
