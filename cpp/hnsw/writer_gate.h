// Writers beside upkeep. Whoever adds, removes or sweeps links shares the gate, any number at once and
// without waiting for each other; short steps that rework the graph hold it alone. Readers never touch it.
//
// Guarantees
//   * between lock() and unlock() nobody shares the gate, and the other way round
//   * lock(); unlock(); is a grace period: every write that was under way at the call has ended, and those
//     that begin afterwards see what was stored before the call
//   * lock_shared is lock-free while nobody is alone: one addition and one load, on a cache line that only a
//     few threads share. Beside one who is alone it waits, for as long as that one stays: upkeep stays for
//     well below a millisecond, a save for some milliseconds a million slots, check and the training of codes
//     for as long as they take.
//   * neither side starves the other: sharers that come after lock() wait for it, and lock() waits for those
//     whom the one before kept waiting
//
// Atomics, and who writes each
//   sharing_[s]  sharers on stripe s: each adds one to announce itself, and takes it off again
//   alone_       exchanged 0 -> 1 by whoever wants to be alone, stored 0 when it leaves
//   waiting_     sharers that found somebody alone; each adds one and takes it off when it is in
//
// Why it is right: a sharer announces itself, then looks at alone_; the other one sets alone_, then looks at
// sharing_. Both pairs are sequentially consistent (Dekker), so at least one sees the other: the sharer then
// steps back, the other one waits. Leaving is a release, read by the wait of the other side (acquire).
//
// Satisfies Lockable and SharedLockable in part: use std::shared_lock and std::unique_lock. Not recursive, in
// either mode. When not to use it: on a read path; for long exclusive sections.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/mutant.h"

namespace embedcore::hnsw {

// The atomics of threads. Tests use others, which an exhaustive scheduler steps through.
struct ThreadAtomics {
  template <class T>
  using Atomic = std::atomic<T>;

  // Returns once the value is the wanted one. Asleep after a short while, to be woken by notify: whoever
  // yields on a busy machine comes back milliseconds later, and holds up the others meanwhile.
  static void await(const std::atomic<std::uint32_t>& value, std::uint32_t wanted) {
    constexpr int spins = 64;
    for (int i = 0;; ++i) {
      const std::uint32_t now = value.load(std::memory_order_seq_cst);
      if (now == wanted) return;
      if (i >= spins) value.wait(now, std::memory_order_seq_cst);
    }
  }
  static void notify(std::atomic<std::uint32_t>& value) { value.notify_all(); }
  // A number of this thread, the same for as long as it lives.
  static std::size_t thread_number() {
    static std::atomic<std::size_t> threads{0};
    thread_local const std::size_t number = threads.fetch_add(1, std::memory_order_relaxed);
    return number;
  }
};

template <class Atomics, std::size_t stripes>
class BasicWriterGate {
  using Count = typename Atomics::template Atomic<std::uint32_t>;

 public:
  void lock_shared() {
    Count& mine = own();
    for (bool waits = false;; waits = true) {
      mine.fetch_add(1, std::memory_order_seq_cst);
      if (alone_.load(std::memory_order_seq_cst) == 0) {
        if (waits) {
          waiting_.fetch_sub(1, std::memory_order_seq_cst);
          Atomics::notify(waiting_);
        }
        return;
      }
      mine.fetch_sub(1, std::memory_order_seq_cst);
      Atomics::notify(mine);
      if (!waits) waiting_.fetch_add(1, std::memory_order_seq_cst);
      Atomics::await(alone_, 0);
    }
  }
  void unlock_shared() {
    Count& mine = own();
    mine.fetch_sub(1, std::memory_order_seq_cst);
    // Whoever waits for this count has set alone_ before it looked, so it is seen here.
    if (alone_.load(std::memory_order_seq_cst) != 0) Atomics::notify(mine);
  }

  void lock() {
    for (std::uint32_t none = 0;; none = 0) {
      Atomics::await(waiting_, 0);
      Atomics::await(alone_, 0);
      if (alone_.compare_exchange_strong(none, 1, std::memory_order_seq_cst)) break;
    }
    if (mutant("open_gate")) return;
    for (Stripe& stripe : sharing_) Atomics::await(stripe.count, 0);
  }
  void unlock() {
    alone_.store(0, std::memory_order_seq_cst);
    Atomics::notify(alone_);
  }

 private:
  struct alignas(64) Stripe { // a cache line each, so that writers do not slow one another
    Count count{0};
  };
  Count& own() { return sharing_[Atomics::thread_number() % stripes].count; }

  std::array<Stripe, stripes> sharing_;
  alignas(64) Count alone_{0};
  Count waiting_{0};
};

using WriterGate = BasicWriterGate<ThreadAtomics, 32>;

} // namespace embedcore::hnsw
