// What the producers and the lanes of one writer share: the ring, its numbering, the bells, the end.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>

#include "dualwrite/bell.h"
#include "dualwrite/entry.h"
#include "dualwrite/gap_watch.h"
#include "dualwrite/numbering.h"

namespace embedcore::dualwrite {

struct Options {
  std::size_t capacity = 65536; // entries; a column has as many rows, rounded up to a power of two
  unsigned threads = 1;         // that apply one lane's writes; 0: nothing is applied but by step()
  bool park = true;             // a lane with a source that is a whole ring behind is parked
  std::chrono::nanoseconds gap_threshold = std::chrono::seconds(1);
};

// How long a call may wait, and who is asked now and then whether to go on (10 times a second; false ends
// the call with Code::cancelled).
struct Patience {
  std::optional<std::chrono::nanoseconds> timeout; // none: for ever; 0: not at all
  std::function<bool()> go_on;
};

inline std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                    std::chrono::nanoseconds(1));
}

struct Stream {
  explicit Stream(const Options& wanted)
      : options(wanted),
        ring(wanted.capacity),
        gaps(static_cast<std::uint64_t>(wanted.gap_threshold.count())) {}

  // Whether a producer has been stuck for longer than the threshold; counted by GapWatch.
  bool look_for_gap() {
    const std::uint64_t published = ring.published();
    return gaps.look(published, ring.claimed(), now_ns());
  }

  const Options options;
  WriteRing ring;
  Numbering numbering;
  GapWatch gaps;
  std::mutex joining; // ring.join, start_parked and close: one thread at a time
  // Rung after: a publish or a change of what lanes should do; a lane read on, or went; a lane applied.
  Bell<> work, room, progress;
  std::atomic<bool> closed{false}; // no new writes; set before the last ones are in
  std::atomic<bool> ended{false};  // nothing more is published; lanes go when they are through
};

enum class Waited : std::uint8_t { met, timed_out, interrupted };

template <class Condition>
Waited wait_at(Bell<>& bell, const Condition& condition, const Patience& patience) {
  if (condition()) return Waited::met;
  using clock = std::chrono::steady_clock;
  const auto start = clock::now();
  // A timeout that would overflow the clock is none.
  const bool limited = patience.timeout && *patience.timeout < std::chrono::hours(24 * 365);
  const Deadline deadline = limited ? start + *patience.timeout : no_deadline;
  for (;;) {
    const std::uint32_t key = bell.key();
    if (condition()) return Waited::met;
    const auto now = clock::now();
    if (now >= deadline) return Waited::timed_out;
    Deadline until = deadline;
    if (patience.go_on) until = std::min<Deadline>(until, now + std::chrono::milliseconds(100));
    bell.wait(key, until);
    if (patience.go_on && clock::now() >= until && !condition() && !patience.go_on()) {
      return Waited::interrupted;
    }
  }
}

} // namespace embedcore::dualwrite
