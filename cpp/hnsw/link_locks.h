// Spin locks for writers of links, striped over the slots. A writer holds at most one at a time, for the
// pruning of one list (microseconds); readers never take one.
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <thread>

#include "hnsw/storage.h"

namespace embedcore::hnsw {

class SpinLock {
 public:
  void lock() {
    for (int spins = 0; flag_.exchange(true, std::memory_order_acquire); ++spins) {
      while (flag_.load(std::memory_order_relaxed)) {
        // The holder may have lost its core.
        if (++spins > 100) std::this_thread::yield();
      }
    }
  }
  void unlock() { flag_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> flag_{false};
};

class LinkLocks {
 public:
  [[nodiscard]] std::unique_lock<SpinLock> of(Slot slot) {
    return std::unique_lock(locks_[(slot * 2654435769u) >> (32 - bits)]); // Fibonacci hashing
  }

 private:
  static constexpr unsigned bits = 12;
  std::array<SpinLock, std::size_t{1} << bits> locks_;
};

} // namespace embedcore::hnsw
