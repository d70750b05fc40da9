// One stream of writes, and the lanes that follow it: every accepted write reaches every lane's index, or is
// on that lane's failure record.
//
// Guarantees
//   * A call is checked whole before anything of it enters the stream. What is refused leaves no trace.
//   * Once upsert or remove has returned its ticket, the write is in the stream for good: after wait(ticket)
//     each lane answers with it, or has its failure on record. Lanes apply in order per item.
//   * Writers take no lock while there is room, but for callers' own numbers (numbering.h). Vectors are
//     copied once, into memory of the ring; callers' arrays are theirs again when the call returns.
//   * A full ring is said: RESOURCE_EXHAUSTED at the end of the caller's patience, nothing accepted.
//   * Lanes come, go and change their index while writes go on. A failing lane stops nobody; a slow one stops
//     writers only if it has no source to catch up from.
// Not promised: durability (the stream is in memory: the truth is the store's log), and that two lanes show
// a write at the same instant.
//
// Thread safety: all members from any thread. Control calls (attach, detach, swap, close) come one at a time.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "common/epoch.h"
#include "common/status.h"
#include "dualwrite/lane.h"
#include "dualwrite/stream.h"

namespace embedcore::dualwrite {

struct LaneSpec {
  std::shared_ptr<Target> target;
  hnsw::Config rules; // what its vectors have to satisfy
  Source source;      // empty: none
  std::optional<std::uint64_t> from_sequence;
  std::optional<std::uint32_t> vectors_of; // takes the vectors of this lane
};

struct Writes {
  struct Rows { // (n, dim) of one lane; null: no vector yet
    const float* data = nullptr;
    std::uint32_t dim = 0;
  };
  Op op = Op::upsert;
  std::span<const std::int64_t> ids;
  std::span<const Rows> rows;                               // by lane number
  std::span<const std::uint64_t> sequences;                 // empty: numbered by the writer
  std::optional<std::span<const std::uint32_t>> only_lanes; // none: all
};

struct WriterStats {
  std::uint64_t accepted = 0;  // the last sequence number
  std::uint64_t entries = 0;   // ever accepted
  std::uint64_t in_flight = 0; // claimed and not published yet
  std::uint64_t waits = 0;     // calls that found the ring full
  std::uint64_t refusals = 0;  // of those, ended by their patience
  std::uint64_t publish_gaps = 0;
};

class DualWriter {
 public:
  static Result<std::unique_ptr<DualWriter>> create(std::vector<LaneSpec> lanes, const Options& options);
  ~DualWriter(); // close(false), without waiting for a lane that does not end

  // The ticket: the last sequence number of the call. No ids: the last one there is.
  Result<std::uint64_t> write(const Writes& writes, const Patience& patience = {});
  // Until every lane has applied the ticket or recorded its failure. DEADLINE_EXCEEDED, CANCELLED, or
  // UNAVAILABLE where a lane has gone with the closed writer before.
  Status wait(std::uint64_t ticket, const Patience& patience = {});

  Result<std::uint32_t> attach(LaneSpec spec);
  Status detach(std::uint32_t lane, const Patience& patience = {});
  // The sequence number up to which writes went to the old index. An index that another lane feeds is taken
  // over from it: that lane gets the old one.
  Result<std::uint64_t> swap(std::uint32_t lane, std::shared_ptr<Target> target, const hnsw::Config& rules);
  Result<std::size_t> step(std::uint32_t lane, std::size_t n); // only with threads = 0
  // No new writes. drain: all lanes apply what there is first; otherwise it goes on their failure records.
  // Again after CANCELLED or DEADLINE_EXCEEDED: goes on. After it has returned ok: nothing.
  Status close(bool drain, const Patience& patience = {});

  [[nodiscard]] bool closed() const { return stream_->closed.load(std::memory_order_acquire); }
  [[nodiscard]] std::vector<std::uint32_t> lanes() const;
  Result<LaneStats> stats(std::uint32_t lane) const;
  Result<std::vector<Failure>> failures(std::uint32_t lane) const;
  [[nodiscard]] WriterStats stats();

 private:
  friend struct DualWriterTestPeer; // defined by tests only: a producer that never publishes
  // What a call writes where, as of one layout.
  struct Plan {
    std::array<std::pair<Column*, const float*>, WriteRing::max_gates> columns{};
    std::size_t count = 0;
    std::uint32_t lanes = all_lanes;
    std::uint64_t version = ~std::uint64_t{0};
  };
  struct Runner {
    std::shared_ptr<Lane> lane;
    std::thread thread;
  };

  explicit DualWriter(const Options& options);

  Status check(const Writes& writes) const;
  Status resolve(const Layout& layout, const Writes& writes, Plan& plan) const;
  Result<std::uint64_t> write_piece(const Writes& writes, std::size_t from, std::size_t n, Plan& plan,
                                    const Patience& patience);
  std::optional<std::uint64_t> try_write(const Writes& writes, std::size_t from, std::size_t n, Plan& plan,
                                         Status& refusal);
  void fill(const Writes& writes, std::size_t from, std::size_t n, const Plan& plan, std::uint64_t first);

  Result<std::shared_ptr<Lane>> find(std::uint32_t lane) const;
  std::shared_ptr<Column> column_for(const LaneSpec& spec, const Layout& layout, Status& refusal) const;
  void publish(std::unique_ptr<Layout> layout);
  [[nodiscard]] Layout copy_of_layout() const;
  Status place(const LaneSpec& spec,
               Lane::Spec& lane); // where in the stream it begins; its gate is open then
  Status await_end(Runner& runner, const Patience& patience);
  void withdraw(const Lane& lane); // its gate and, where no other lane needs it, its column

  const std::shared_ptr<Stream> stream_; // the appliers' too: one that hangs in its index outlives the writer
  const int process_;
  mutable EpochDomain epochs_; // layouts
  std::atomic<const Layout*> layout_{nullptr};
  std::mutex control_;
  mutable std::shared_mutex lanes_mutex_; // guards lanes_; never held while waiting
  std::vector<Runner> lanes_;
  std::vector<Runner> leaving_; // detached, with a thread that has not come back yet; under control_
  bool close_done_ = false;     // under control_
  std::atomic<std::uint64_t> accepted_{0}, waits_{0}, refusals_{0};
};

} // namespace embedcore::dualwrite
