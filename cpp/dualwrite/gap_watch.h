// Detects a publish gap: a position that was claimed and stays unpublished, because its producer stopped
// between the two. Lanes wait in front of it; nothing can skip it, since the producer may still come.
//
// Looked at by whoever waits: lanes, producers, stats. Time is handed in. Thread safety: look and the counts
// from any thread. When not to use it: to repair; it only tells.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

namespace embedcore::dualwrite {

class GapWatch {
 public:
  explicit GapWatch(std::uint64_t threshold_ns) : threshold_(threshold_ns) {}

  // published, claimed: as the ring has them, in this order of reading. True while a gap is there that is
  // older than the threshold; each is counted once.
  bool look(std::uint64_t published, std::uint64_t claimed, std::uint64_t now_ns) {
    const std::lock_guard lock(mutex_);
    if (published >= claimed) {
      waiting_ = counted_ = false;
      return false;
    }
    if (!waiting_ || published != stuck_at_) {
      waiting_ = true;
      counted_ = false;
      stuck_at_ = published;
      since_ = now_ns;
    }
    const bool gap = now_ns - since_ >= threshold_;
    if (gap && !counted_) {
      counted_ = true;
      count_.fetch_add(1, std::memory_order_relaxed);
    }
    return gap;
  }

  [[nodiscard]] std::uint64_t threshold_ns() const { return threshold_; }
  [[nodiscard]] std::uint64_t count() const { return count_.load(std::memory_order_relaxed); }

 private:
  const std::uint64_t threshold_;
  std::mutex mutex_; // guards the four below
  bool waiting_ = false, counted_ = false;
  std::uint64_t stuck_at_ = 0, since_ = 0;
  std::atomic<std::uint64_t> count_{0};
};

} // namespace embedcore::dualwrite
