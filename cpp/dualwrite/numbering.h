// Who numbers the writes. A writer's own numbers are the ring's positions: nothing is locked. Callers'
// numbers come from a log; they are claimed under a lock, so that the order in the ring is the order in
// which they were given, and what comes late (below a number given before) is known.
//
// Late writes are allowed: lanes drop those that are older than what they have of the item. A lane that
// catches up from its source asks for numbers from some point on, so it has to know of late ones below it:
// they are kept here, position and number, the oldest ones merged where there are many.
//
// Thread safety: all members from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "common/status.h"
#include "dualwrite/entry.h"

namespace embedcore::dualwrite {

class Numbering {
 public:
  // The end of the stream as of a moment. Every write up to `position` has a number of at most `sequence`.
  struct Head {
    std::uint64_t position = 0;
    std::uint64_t sequence = 0;
    std::uint64_t late = std::numeric_limits<std::uint64_t>::max(); // lowest late number behind `since`
  };

  // The first write decides for all.
  Status choose(bool callers) {
    const Mode wanted = callers ? Mode::callers : Mode::own;
    Mode now = mode_.load(std::memory_order_acquire);
    if (now == Mode::open && mode_.compare_exchange_strong(now, wanted, std::memory_order_acq_rel)) return {};
    if (now == wanted) return {};
    return {Code::failed_precondition,
            callers ? "sequences were given, but this writer numbers its writes itself; give none"
                    : "no sequences were given, but this writer's come from its callers; give them always"};
  }
  [[nodiscard]] bool by_callers() const { return mode_.load(std::memory_order_acquire) == Mode::callers; }
  [[nodiscard]] bool ever_late() const { return ever_late_.load(std::memory_order_acquire); }

  // Claims as many positions; sequences: callers' numbers, or empty.
  std::optional<std::uint64_t> claim(WriteRing& ring, std::size_t n,
                                     std::span<const std::uint64_t> sequences) {
    if (sequences.empty()) return ring.try_claim(n);
    const std::lock_guard lock(mutex_);
    const auto first = ring.try_claim(n);
    if (!first) return first;
    if (sequences.front() <= last_) {
      note({WriteRing::after(*first, n - 1), sequences.front()});
      ever_late_.store(true, std::memory_order_release);
    }
    last_ = std::max(last_, sequences.back());
    return first;
  }

  // late: of the late writes behind position `since`.
  [[nodiscard]] Head head(const WriteRing& ring, std::uint64_t since) {
    if (!by_callers()) return own_head(ring.claimed());
    const std::lock_guard lock(mutex_);
    Head head;
    head.position = ring.claimed();
    head.sequence = last_;
    for (const Late& late : late_) {
      if (late.position > since) head.late = std::min(head.late, late.sequence);
    }
    return head;
  }

  // For who needs the stream to stand still: no callers' number is claimed meanwhile.
  [[nodiscard]] std::unique_lock<std::mutex> hold() { return std::unique_lock(mutex_); }

 private:
  enum class Mode : std::uint8_t { open, own, callers };
  struct Late {
    std::uint64_t position, sequence;
  };
  static constexpr std::size_t most_late = 1024;

  [[nodiscard]] static Head own_head(std::uint64_t position) {
    Head head;
    head.position = head.sequence = position;
    return head;
  }

  void note(Late late) {
    late_.push_back(late);
    if (late_.size() <= most_late) return;
    // A merged one stands for more than there was, which costs a lane that catches up some re-reading.
    Late merged = late_[most_late / 2];
    for (std::size_t i = 0; i < most_late / 2; ++i)
      merged.sequence = std::min(merged.sequence, late_[i].sequence);
    late_.erase(late_.begin(), late_.begin() + most_late / 2);
    late_.front() = merged;
  }

  std::atomic<Mode> mode_{Mode::open};
  std::atomic<bool> ever_late_{false};
  std::mutex mutex_; // guards the two below, and claims of callers' numbers
  std::uint64_t last_ = 0;
  std::vector<Late> late_;
};

} // namespace embedcore::dualwrite
