// A lane: reads the stream in order, brings its index to each write, and keeps the record of what failed.
//
//                     in the ring                              parked
//   reads from        the ring's entries                       the source of record, by sequence number
//   goes over when    producers find it a ring behind and it   it has what there was at some moment, and the
//                     has a source                             ring still holds everything since
//   wait(ticket)      when it has applied the ticket           likewise, however long that takes
//
// A turn copies up to batch_limit entries out of the ring, lets the ring go on, then applies them: so a slow
// or dead index holds the ring up by the entries it has not copied, and never by those it works on.
//
// State of an item after a write that this lane
//   applied                   as written
//   has no vector for         removed, failure "no vector yet": an older vector would be wrong
//   could not apply           removed as far as the index lets it, failure with its reason
//   finds older than it has   unchanged, counted as ignored
//
// Thread safety: step, swap and take_over from any thread, one turn at a time (turn_mutex_); the watermarks,
// stats and failures may be read at any time. Atomics: watermarks and counts, written by who has the turn
// (release), read by all (acquire).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/status.h"
#include "dualwrite/failures.h"
#include "dualwrite/stream.h"
#include "dualwrite/target.h"
#include "dualwrite/versions.h"

namespace embedcore::dualwrite {

struct LaneStats {
  std::uint64_t applied = 0;   // sequence number
  std::uint64_t lag = 0;       // entries of the stream not applied yet
  std::uint64_t successes = 0; // writes, as are the next five
  std::uint64_t failures = 0;  // those without a vector included
  std::uint64_t missing = 0;   // without a vector
  std::uint64_t ignored = 0;   // older than what the lane had
  std::uint64_t caught_up = 0; // taken from the source
  std::uint64_t recorded = 0;  // items on the failure record now
  std::uint64_t parkings = 0;
  bool parked = false;
  std::string source_error; // of the source's last call; empty: none
};

class Lane {
 public:
  struct Spec {
    std::uint32_t number = 0;
    std::uint32_t gate = 0;
    std::uint64_t born = 0; // position up to which entries name other lanes by this gate
    std::shared_ptr<Column> column;
    std::shared_ptr<Target> target;
    Source source;
    std::uint64_t position = 0, sequence = 0; // applied already
  };
  struct Turned {
    std::size_t applied;
    Turn turn;
  };

  Lane(std::shared_ptr<Stream> stream, Spec spec);

  // Up to `most` writes; how many there were.
  std::size_t step(std::size_t most);
  // The applier thread: turns until the lane is stopped, or the stream has ended and all is applied.
  void run();
  void stop();   // run() returns after its turn, and step() does nothing any more
  void settle(); // waits for the turn in progress

  // From the next write on. Returns the sequence number up to which writes went to the old one. Waits for the
  // turn in progress.
  std::uint64_t swap(std::shared_ptr<Target> target);
  // Exchanges index, failures and versions with a lane of the same column, both at the same position, to
  // which the one behind is stepped. FAILED_PRECONDITION where one of them is parked.
  static Result<std::uint64_t> take_over(Lane& mine, Lane& other);
  // After run() has returned: what is left in the ring goes on the failure record.
  void record_rest(const std::string& reason);

  [[nodiscard]] std::uint32_t number() const { return spec_.number; }
  [[nodiscard]] std::uint32_t gate() const { return spec_.gate; }
  [[nodiscard]] const std::shared_ptr<Column>& column() const { return spec_.column; }
  [[nodiscard]] bool has_source() const { return static_cast<bool>(spec_.source); }
  [[nodiscard]] bool may_park() const { return has_source() && stream_->options.park; }
  [[nodiscard]] bool feeds(const void* index);
  [[nodiscard]] std::uint64_t position() const { return position_.load(std::memory_order_acquire); }
  [[nodiscard]] std::uint64_t sequence() const { return sequence_.load(std::memory_order_acquire); }
  // Nothing will be applied any more.
  [[nodiscard]] bool gone() const { return gone_.load(std::memory_order_acquire); }
  void set_gone();
  [[nodiscard]] LaneStats stats() const;
  [[nodiscard]] std::vector<Failure> failures() const { return failures_.list(); }

 private:
  enum class Kind : std::uint8_t { upsert, missing, remove, skip };
  // Writes to apply, copied from wherever they came. Reused, so that nothing is allocated per turn.
  struct Batch {
    std::vector<std::int64_t> ids;
    std::vector<std::uint64_t> sequences;
    std::vector<Kind> kinds;
    std::vector<float> rows;                              // of upserts, in order
    std::unordered_map<std::size_t, std::string> reasons; // why one is missing, where not by default
    void clear();
  };

  Turned turn(std::size_t most);
  Turned catch_up(std::size_t most); // catch_up.cpp
  bool take_from_source(std::size_t most);
  Status check_writes(const SourceWrites& writes) const;
  void collect_writes();
  void rejoin();

  void collect(std::uint64_t first, std::size_t count);
  void push(std::int64_t id, std::uint64_t sequence, Kind kind, const float* row);
  void apply();
  void apply_upserts(std::size_t from, std::size_t to, const float* rows);
  void apply_removes(std::size_t from, std::size_t to);
  void succeed(std::size_t i);
  void fail(std::size_t i, const std::string& reason);
  void advance(std::uint64_t position, std::uint64_t sequence);

  const std::shared_ptr<Stream> stream_;
  Spec spec_; // target, source and below under turn_mutex_
  const std::size_t batch_limit_;
  mutable std::mutex turn_mutex_;
  Batch batch_;
  Versions versions_;
  FailureRecord failures_;
  std::optional<Numbering::Head> round_; // what the catch-up under way has to reach
  std::uint64_t next_ = 0;               // sequence number to ask the source for
  SourceWrites writes_;
  bool parked_ = false; // as of the last turn

  std::atomic<std::uint64_t> position_, sequence_;
  std::atomic<std::uint64_t> successes_{0}, failed_{0}, missing_{0}, ignored_{0}, caught_up_{0}, parkings_{0};
  std::atomic<bool> stopping_{false}, gone_{false};
  std::atomic<std::uint32_t> wanted_{0}; // who waits for a turn: the applier lets them go first
  mutable std::mutex error_mutex_;       // guards source_error_
  std::string source_error_;
};

} // namespace embedcore::dualwrite
