// Free runs of links, as a stack whose links lie in the runs themselves (Treiber 1986).
//
// Guarantees: push and pop are lock-free; what the pusher did happens before what the popper does.
// One word: the top run + 1, or 0, and a count of exchanges in the upper half, so that a top which was
// popped, used and pushed again is not taken for the one that was read (ABA; trusted while fewer than 2^32
// exchanges happen during one pop). Exchanged with acq_rel.
//
// Next gives, and takes, the run below one: load(run), store(run, below), atomic; of a run that another
// thread has just popped it may give anything, since the exchange fails then.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "common/mutant.h"

namespace embedcore::hnsw {

template <class Atomics>
class BasicRunStack {
 public:
  template <class Next>
  void push(std::uint32_t run, const Next& next) {
    std::uint64_t seen = top_.load(std::memory_order_acquire);
    do {
      next.store(run, static_cast<std::uint32_t>(seen));
    } while (!exchange(seen, run + 1));
  }

  template <class Next>
  [[nodiscard]] std::optional<std::uint32_t> pop(const Next& next) {
    std::uint64_t seen = top_.load(std::memory_order_acquire);
    while (static_cast<std::uint32_t>(seen) != 0) {
      const std::uint32_t run = static_cast<std::uint32_t>(seen) - 1;
      if (exchange(seen, next.load(run))) return run;
    }
    return std::nullopt;
  }

 private:
  bool exchange(std::uint64_t& seen, std::uint32_t top) {
    const std::uint64_t count = mutant("uncounted_pop") ? 0 : (seen >> 32) + 1;
    return top_.compare_exchange_strong(seen, count << 32 | top, std::memory_order_acq_rel,
                                        std::memory_order_acquire);
  }

  typename Atomics::template Atomic<std::uint64_t> top_{0};
};

} // namespace embedcore::hnsw
