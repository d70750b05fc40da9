// Router: the query path. One call answers one query over the current routing table.
//
// Guarantees
//   * Readers never lock and never wait: a search pins an epoch, loads one pointer, and works on that
//     table to its end. It sees the whole old table or the whole new one.
//   * When publish returns, no search runs on the old table any more and the router has let go of it and
//     of indexes that only it held. Batches in flight (search_batch) keep the table they began with.
//   * A refused table changes nothing.
//   * Counters belong to slots, not to tables: they survive replacement.
//
// Atomics, and who writes each
//   current_      publish stores (release) under publish_mutex_; readers load (acquire) with an epoch
//                 pinned. EpochDomain::synchronize makes the old table safe to drop.
//   counters_[i]  null, then one block for ever; publish stores (release) before the table that has the
//                 slot; readers load (acquire).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "common/epoch.h"
#include "common/status.h"
#include "serving/counters.h"
#include "serving/execute.h"
#include "serving/request.h"
#include "serving/routing_table.h"

namespace embedcore::serving {

// Nanoseconds of std::chrono::steady_clock.
[[nodiscard]] std::uint64_t steady_now_ns();

// Thread safety: all members from any number of threads at once, except construction and destruction.
class Router {
 public:
  explicit Router(Clock clock = &steady_now_ns) : clock_(clock) {}
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  // Replaces the table. Errors: validate's; failed_precondition where the version is not above the current
  // one (another publisher was faster). Waits for the searches in flight, milliseconds.
  Status publish(RoutingTable table);

  // Of the current table; 0 before the first.
  [[nodiscard]] std::uint64_t version() const;

  // Which generations' vectors a request of this user needs now. Errors of plan, search and search_batch:
  // unavailable before the first table; not_found for an unknown slot.
  [[nodiscard]] Result<Plan> plan(std::size_t slot, std::uint64_t user_hash) const;

  // Further errors: invalid_argument (k, vectors, filter order, weight), failed_precondition (a weight for
  // a consumer without target), deadline_exceeded (with nothing found; with something, a partial answer).
  [[nodiscard]] Result<Answer> search(const Request& request) const;

  // Many queries of one slot on several threads, for evaluation: all on one table, without canary and
  // deadline, not counted. Further errors: failed_precondition where a needed generation's vectors are
  // missing; cancelled.
  [[nodiscard]] Result<BatchAnswer> search_batch(const BatchRequest& request) const;

  // not_found for a slot that no table has had yet. latency: of search, its checks included.
  [[nodiscard]] Result<CounterSnapshot> counters(std::size_t slot) const;

 private:
  struct Held : std::enable_shared_from_this<Held> { // so that a batch can keep its table
    explicit Held(RoutingTable t) : table(std::move(t)) {}
    const RoutingTable table;
  };

  Result<Answer> search_pinned(const Request& request) const;

  const Clock clock_;
  mutable EpochDomain epochs_;
  std::atomic<const Held*> current_{nullptr};
  std::array<std::atomic<SlotCounters*>, max_consumers> counters_{};

  std::mutex publish_mutex_;          // one publisher at a time; guards owner_
  std::shared_ptr<const Held> owner_; // what current_ points to
};

} // namespace embedcore::serving
