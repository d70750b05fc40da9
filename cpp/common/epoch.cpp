// The slow half of epoch-based reclamation: finding a slot, scanning the slots, running callbacks.
#include "common/epoch.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <thread>
#include <utility>

namespace embedcore {

namespace {

// Spreads threads over the slots, so that a pin usually takes the slot this thread used before.
std::size_t thread_hint() {
  static std::atomic<std::size_t> threads{0};
  thread_local const std::size_t hint = threads.fetch_add(1, std::memory_order_relaxed);
  return hint;
}

} // namespace

EpochDomain::Guard EpochDomain::pin() {
  const std::size_t hint = thread_hint();
  for (Block* block = &first_;;) {
    for (std::size_t i = 0; i < block_slots; ++i) {
      Slot& slot = block->slots[(hint + i) % block_slots];
      std::uint64_t free = slot.epoch.load(std::memory_order_relaxed);
      if (free != 0) continue;
      // An epoch that is old by the time of the CAS only makes the guard hold back more than it must.
      const std::uint64_t now = epoch_.load(std::memory_order_acquire);            // pair (1)
      if (slot.epoch.compare_exchange_strong(free, now, std::memory_order_acq_rel, // pair (2)
                                             std::memory_order_relaxed)) {
        return Guard(&slot);
      }
    }
    Block* next = block->next.load(std::memory_order_acquire); // pair (4)
    if (next == nullptr) {
      auto fresh = std::make_unique<Block>();
      if (block->next.compare_exchange_strong(next, fresh.get(), std::memory_order_acq_rel,
                                              std::memory_order_acquire)) {
        next = fresh.release();
      }
    }
    block = next;
  }
}

void EpochDomain::retire(std::function<void()> reclaim, std::function<void()> then) {
  Queue one;
  one.push_back({0, std::move(reclaim), std::move(then)});
  queue(one, one.begin());
}

// Moves one of from to the end of the queue, as retired now.
void EpochDomain::queue(Queue& from, Queue::iterator one) {
  one->epoch = epoch_.fetch_add(1, std::memory_order_acq_rel); // pair (1)
  const std::lock_guard lock(retired_mutex_);
  retired_.splice(retired_.end(), from, one);
}

std::uint64_t EpochDomain::oldest_pinned() {
  std::uint64_t oldest = std::numeric_limits<std::uint64_t>::max();
  for (Block* block = &first_; block != nullptr;
       block = block->next.fetch_add(0, std::memory_order_acq_rel)) { // pair (4)
    for (Slot& slot : block->slots) {
      const std::uint64_t epoch = slot.epoch.fetch_add(0, std::memory_order_acq_rel); // pairs (2), (3)
      if (epoch != 0) oldest = std::min(oldest, epoch);
    }
  }
  return oldest;
}

// Pre-condition: reclaim_mutex_ is held. Only what was queued before the scan is judged by the scan.
std::size_t EpochDomain::reclaim_locked() {
  Queue candidates;
  {
    const std::lock_guard lock(retired_mutex_);
    candidates.swap(retired_);
  }
  if (candidates.empty()) return 0;
  const std::uint64_t oldest = oldest_pinned();
  Queue kept;
  for (auto it = candidates.begin(); it != candidates.end();) {
    const auto one = it++;
    if (one->epoch >= oldest) kept.splice(kept.end(), candidates, one);
  }
  if (!kept.empty()) {
    const std::lock_guard lock(retired_mutex_);
    retired_.splice(retired_.begin(), kept);
  }
  const std::size_t ran = candidates.size();
  while (!candidates.empty()) {
    const auto one = candidates.begin();
    one->reclaim();
    if (one->then) {
      one->reclaim = std::exchange(one->then, {});
      queue(candidates, one);
    } else {
      candidates.erase(one);
    }
  }
  return ran;
}

std::size_t EpochDomain::try_reclaim() {
  const std::unique_lock lock(reclaim_mutex_, std::try_to_lock);
  return lock.owns_lock() ? reclaim_locked() : 0;
}

void EpochDomain::synchronize() {
  const std::uint64_t epoch = epoch_.fetch_add(1, std::memory_order_acq_rel);
  while (oldest_pinned() <= epoch) std::this_thread::yield();
  const std::lock_guard lock(reclaim_mutex_);
  reclaim_locked();
}

std::size_t EpochDomain::pending() const {
  const std::lock_guard lock(retired_mutex_);
  return retired_.size();
}

EpochDomain::~EpochDomain() {
  // A callback may retire more, e.g. an object that owns others; so until nothing is left.
  while (reclaim_locked() > 0) {
  }
  for (Block* block = first_.next.load(std::memory_order_acquire); block != nullptr;) {
    Block* next = block->next.load(std::memory_order_acquire);
    delete block;
    block = next;
  }
}

} // namespace embedcore
