// A lane seen from outside: its index changed between two writes, what is left at the end, the counts.
#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "dualwrite/lane.h"

namespace embedcore::dualwrite {

namespace {

// Holds the turns of a lane: the applier would take its mutex again before a waiting thread wakes.
class Hold {
 public:
  Hold(std::atomic<std::uint32_t>& wanted, std::mutex& mutex) : wanted_(wanted), mutex_(mutex) {
    wanted_.fetch_add(1, std::memory_order_acq_rel);
    mutex_.lock();
  }
  ~Hold() {
    mutex_.unlock();
    wanted_.fetch_sub(1, std::memory_order_acq_rel);
    wanted_.notify_all();
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;

 private:
  std::atomic<std::uint32_t>& wanted_;
  std::mutex& mutex_;
};

} // namespace

std::uint64_t Lane::swap(std::shared_ptr<Target> target) {
  const Hold hold(wanted_, turn_mutex_);
  spec_.target.swap(target); // the old one is let go by the caller's reference, after the lock
  return sequence();
}

Result<std::uint64_t> Lane::take_over(Lane& mine, Lane& other) {
  Lane& lower = mine.number() < other.number() ? mine : other;
  Lane& upper = mine.number() < other.number() ? other : mine;
  const Hold first(lower.wanted_, lower.turn_mutex_);
  const Hold second(upper.wanted_, upper.turn_mutex_);
  while (mine.position() != other.position()) {
    Lane& behind = mine.position() < other.position() ? mine : other;
    const std::uint64_t gap = mine.position() < other.position() ? other.position() - mine.position()
                                                                 : mine.position() - other.position();
    const Turned turned = behind.turn(std::min<std::uint64_t>(gap, behind.batch_limit_));
    if (turned.turn != Turn::ready) {
      return Error{Code::failed_precondition, "lane " + std::to_string(behind.number()) +
                                                  " is behind and parked; swap when it has caught up"};
    }
  }
  mine.spec_.target.swap(other.spec_.target);
  std::swap(mine.versions_, other.versions_);
  mine.failures_.exchange(other.failures_);
  return mine.sequence();
}

void Lane::settle() { const Hold hold(wanted_, turn_mutex_); }

bool Lane::feeds(const void* index) {
  const Hold hold(wanted_, turn_mutex_);
  return spec_.target->index() == index;
}

void Lane::record_rest(const std::string& reason) {
  const std::lock_guard lock(turn_mutex_);
  WriteRing::Position first = 0;
  std::size_t count = 0;
  while (stream_->ring.begin(spec_.gate, batch_limit_, first, count) == Turn::ready) {
    collect(first, count);
    stream_->ring.end(spec_.gate, count);
    for (std::size_t i = 0; i < batch_.ids.size(); ++i) {
      if (batch_.kinds[i] != Kind::skip) fail(i, reason);
    }
    std::uint64_t newest = 0;
    for (const std::uint64_t sequence : batch_.sequences) newest = std::max(newest, sequence);
    advance(WriteRing::after(first, count - 1), newest);
  }
}

LaneStats Lane::stats() const {
  LaneStats stats;
  stats.applied = sequence();
  stats.parked = stream_->ring.is_parked(spec_.gate);
  const bool numbered = stats.parked && !stream_->numbering.by_callers();
  // While it catches up, the source's numbers say how far it is where they are positions.
  const std::uint64_t at = numbered ? std::max(position(), stats.applied) : position();
  const std::uint64_t claimed = stream_->ring.claimed();
  stats.lag = claimed > at ? claimed - at : 0;
  stats.successes = successes_.load(std::memory_order_relaxed);
  stats.failures = failed_.load(std::memory_order_relaxed);
  stats.missing = missing_.load(std::memory_order_relaxed);
  stats.ignored = ignored_.load(std::memory_order_relaxed);
  stats.caught_up = caught_up_.load(std::memory_order_relaxed);
  stats.recorded = failures_.size();
  stats.parkings = parkings_.load(std::memory_order_relaxed);
  const std::lock_guard lock(error_mutex_);
  stats.source_error = source_error_;
  return stats;
}

} // namespace embedcore::dualwrite
