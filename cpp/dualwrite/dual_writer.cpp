// The control side of a DualWriter: lanes come and go, and the end.
#include "dualwrite/dual_writer.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

namespace embedcore::dualwrite {

namespace {

Error refuse(std::string message) { return {Code::invalid_argument, std::move(message)}; }

Error closed_error() { return {Code::unavailable, "the writer is closed; open a new one"}; }

Error no_lane(std::uint32_t lane) {
  return {Code::not_found,
          "there is no lane " + std::to_string(lane) + "; it was detached, or never attached"};
}

Status same_space(const Column& column, const hnsw::Config& rules, const std::string& what) {
  if (column.rules().dim != rules.dim) {
    return refuse(what + " has " + std::to_string(rules.dim) + " dimensions, the lane's vectors have " +
                  std::to_string(column.rules().dim));
  }
  if (column.rules().metric != rules.metric) return refuse(what + " has another metric than the lane's");
  return {};
}

} // namespace

DualWriter::DualWriter(const Options& options)
    : stream_(std::make_shared<Stream>(options)), process_(getpid()) {
  layout_.store(new Layout(), std::memory_order_release);
}

Result<std::unique_ptr<DualWriter>> DualWriter::create(std::vector<LaneSpec> lanes, const Options& options) {
  if (options.capacity < 1 || options.capacity > (std::size_t{1} << 30)) {
    return refuse("capacity is " + std::to_string(options.capacity) + "; it must be 1 to 2^30");
  }
  std::unique_ptr<DualWriter> writer(new DualWriter(options));
  for (LaneSpec& spec : lanes) {
    if (auto lane = writer->attach(std::move(spec)); !lane.ok()) return lane.error();
  }
  return writer;
}

DualWriter::~DualWriter() {
  if (process_ != getpid()) {
    // A forked child has none of the threads: nothing to join, and joining would wait for ever.
    for (Runner& runner : lanes_) {
      if (runner.thread.joinable()) runner.thread.detach();
    }
    return;
  }
  Patience patience;
  patience.timeout = std::chrono::seconds(1);
  if (!close(false, patience).ok()) {
    for (Runner& runner : lanes_) {
      if (runner.thread.joinable()) runner.thread.detach(); // it keeps alive what it needs
    }
  }
  delete layout_.load(std::memory_order_acquire);
}

Layout DualWriter::copy_of_layout() const { return *layout_.load(std::memory_order_acquire); }

void DualWriter::publish(std::unique_ptr<Layout> layout) {
  const Layout* old = layout_.load(std::memory_order_relaxed);
  layout->version = old->version + 1;
  layout_.store(layout.release(), std::memory_order_release);
  epochs_.retire([old] { delete old; });
  // No producer works by an older layout from here on: a place or gate that is given to another lane is that
  // lane's alone. Producers hold no epoch while they wait.
  epochs_.synchronize();
}

std::shared_ptr<Column> DualWriter::column_for(const LaneSpec& spec, const Layout& layout,
                                               Status& refusal) const {
  if (spec.vectors_of) {
    const auto lane = find(*spec.vectors_of);
    if (!lane.ok()) {
      refusal = lane.error();
      return nullptr;
    }
    refusal = same_space(*lane.value()->column(), spec.rules, "the index");
    return refusal.ok() ? lane.value()->column() : nullptr;
  }
  std::uint32_t used = 0;
  for (const auto& column : layout.columns) used |= column->bit();
  const auto place = static_cast<std::uint32_t>(std::countr_one(used));
  return std::make_shared<Column>(layout.numbers, place, spec.rules, stream_->ring.size());
}

Result<std::uint32_t> DualWriter::attach(LaneSpec spec) {
  const std::lock_guard control(control_);
  if (closed()) return closed_error();
  const Layout before = copy_of_layout();
  if (before.gates.size() == WriteRing::max_gates) {
    return refuse("there are " + std::to_string(WriteRing::max_gates) +
                  " lanes, the most there can be; detach one");
  }
  Status refusal;
  Lane::Spec lane;
  try {
    lane.column = column_for(spec, before, refusal);
  } catch (const std::bad_alloc&) {
    return refuse("no memory for a ring of " + std::to_string(stream_->ring.size()) +
                  " vectors; use a smaller capacity");
  }
  if (!refusal.ok()) return refusal.error();
  std::uint32_t used = 0;
  for (const auto& [number, gate] : before.gates) used |= std::uint32_t{1} << gate;
  lane.gate = static_cast<std::uint32_t>(std::countr_one(used));
  lane.number = before.numbers;
  lane.target = std::move(spec.target);
  lane.source = spec.source;

  auto layout = std::make_unique<Layout>(before);
  if (!spec.vectors_of) layout->columns.push_back(lane.column);
  layout->gates.emplace_back(lane.number, lane.gate);
  ++layout->numbers;
  publish(std::move(layout));
  lane.born = stream_->ring.claimed();
  if (!spec.vectors_of) lane.column->set_born(lane.born);
  if (Status s = place(spec, lane); !s.ok()) {
    publish(std::make_unique<Layout>(before));
    return s.error();
  }

  Runner runner{std::make_shared<Lane>(stream_, std::move(lane)), {}};
  const std::uint32_t number = runner.lane->number();
  if (stream_->options.threads > 0) {
    runner.thread = std::thread([own = runner.lane] { own->run(); });
  }
  const std::unique_lock lock(lanes_mutex_);
  lanes_.push_back(std::move(runner));
  return number;
}

Status DualWriter::place(const LaneSpec& spec, Lane::Spec& lane) {
  WriteRing& ring = stream_->ring;
  const bool callers = stream_->numbering.by_callers();
  const bool may_park = static_cast<bool>(spec.source) && stream_->options.park;
  const auto join_at = [&](std::uint64_t position) {
    const std::lock_guard joining(stream_->joining);
    return ring.join(lane.gate, position, may_park);
  };
  if (!spec.from_sequence) {
    for (;;) { // again where a whole lap went by in between
      const Numbering::Head head = stream_->numbering.head(ring, 0);
      lane.position = head.position;
      lane.sequence = head.sequence;
      if (join_at(head.position)) return {};
    }
  }
  const std::uint64_t from = *spec.from_sequence;
  const std::uint64_t last = accepted_.load(std::memory_order_acquire);
  if (from < 1 || (from > last + 1 && last > 0)) {
    return refuse("from_sequence is " + std::to_string(from) + "; it must be 1 to " +
                  std::to_string(last + 1) + ", one past the last write");
  }
  lane.sequence = std::min(from - 1, last);
  if (!callers) {
    lane.position = std::min(from - 1, ring.claimed());
    if (join_at(lane.position)) return {};
  } else {
    const auto still = stream_->numbering.hold(); // no claims: what is in the ring stays
    while (ring.published() != ring.claimed()) {
      if (stream_->look_for_gap()) {
        return {Code::failed_precondition,
                "a write was begun and never finished (publish gap); open a new writer"};
      }
      std::this_thread::yield();
    }
    const std::uint64_t claimed = ring.claimed();
    const auto capacity = static_cast<std::uint64_t>(ring.capacity());
    const std::uint64_t oldest = claimed > capacity ? claimed - capacity + 1 : 1;
    std::uint64_t first = oldest;
    while (first <= claimed && ring.entry(first).sequence < from) ++first;
    // The oldest one there may not be the oldest one wanted.
    const bool all = oldest == 1 || first > oldest || ring.entry(first).sequence == from;
    lane.position = first - 1;
    if (all && join_at(lane.position)) return {};
  }
  if (!spec.source) {
    return refuse("sequence " + std::to_string(from) + " has left the ring of " +
                  std::to_string(ring.capacity()) +
                  "; give a source, or fill the index and attach it from a later one");
  }
  lane.position = 0;
  const std::lock_guard joining(stream_->joining);
  ring.start_parked(lane.gate);
  return {};
}

Result<std::shared_ptr<Lane>> DualWriter::find(std::uint32_t lane) const {
  const std::shared_lock lock(lanes_mutex_);
  for (const Runner& runner : lanes_) {
    if (runner.lane->number() == lane) return runner.lane;
  }
  return no_lane(lane);
}

// Until the thread has left run(); joins it then.
Status DualWriter::await_end(Runner& runner, const Patience& patience) {
  if (!runner.thread.joinable()) return {};
  switch (wait_at(stream_->progress, [&] { return runner.lane->gone(); }, patience)) {
    case Waited::met:
      break;
    case Waited::timed_out:
      return {Code::deadline_exceeded, "lane " + std::to_string(runner.lane->number()) + " is still at work"};
    case Waited::interrupted:
      return {Code::cancelled,
              "stopped while lane " + std::to_string(runner.lane->number()) + " was at work"};
  }
  runner.thread.join();
  return {};
}

Status DualWriter::detach(std::uint32_t number, const Patience& patience) {
  const std::lock_guard control(control_);
  if (closed()) return closed_error();
  Runner runner;
  {
    const std::unique_lock lock(lanes_mutex_);
    const auto at = std::find_if(lanes_.begin(), lanes_.end(),
                                 [&](const Runner& r) { return r.lane->number() == number; });
    if (at == lanes_.end()) return no_lane(number);
    runner = std::move(*at);
    lanes_.erase(at);
  }
  {
    const std::lock_guard joining(stream_->joining);
    stream_->ring.close(runner.lane->gate()); // writers that wait for it go on at once
  }
  stream_->room.ring();
  runner.lane->stop();
  const Status ended = await_end(runner, patience);
  if (runner.thread.joinable()) runner.thread.detach(); // it holds what it needs, and goes after its turn
  runner.lane->set_gone();

  auto layout = std::make_unique<Layout>(copy_of_layout());
  std::erase_if(layout->gates, [&](const auto& pair) { return pair.first == number; });
  const auto used = [&](const std::shared_ptr<Column>& column) {
    const std::shared_lock lock(lanes_mutex_);
    return std::any_of(lanes_.begin(), lanes_.end(),
                       [&](const Runner& other) { return other.lane->column() == column; });
  };
  std::erase_if(layout->columns, [&](const auto& column) { return !used(column); });
  publish(std::move(layout));
  return ended;
}

Result<std::uint64_t> DualWriter::swap(std::uint32_t number, std::shared_ptr<Target> target,
                                       const hnsw::Config& rules) {
  const std::lock_guard control(control_);
  if (closed()) return closed_error();
  const auto lane = find(number);
  if (!lane.ok()) return lane.error();
  if (Status s = same_space(*lane.value()->column(), rules, "the new index"); !s.ok()) return s.error();
  for (const std::uint32_t other : lanes()) {
    if (other == number) continue;
    const auto feeder = find(other);
    if (!feeder.ok() || !feeder.value()->feeds(target->index())) continue;
    if (feeder.value()->column() != lane.value()->column()) {
      return refuse("the new index is lane " + std::to_string(other) +
                    "'s, which has vectors of its own; attach it "
                    "with vectors_of=" +
                    std::to_string(number));
    }
    return Lane::take_over(*lane.value(), *feeder.value());
  }
  return lane.value()->swap(std::move(target));
}

Result<std::size_t> DualWriter::step(std::uint32_t number, std::size_t n) {
  if (closed()) return closed_error();
  if (stream_->options.threads != 0) {
    return Error{Code::failed_precondition, "this writer's threads apply its writes; step is for threads=0"};
  }
  const auto lane = find(number);
  if (!lane.ok()) return lane.error();
  return lane.value()->step(n);
}

Status DualWriter::close(bool drain, const Patience& patience) {
  const std::lock_guard control(control_);
  if (close_done_) return {};
  stream_->closed.store(true, std::memory_order_release);
  stream_->room.ring();
  // A producer that was let in before has published when its epoch ends; later ones see that it is closed.
  epochs_.synchronize();
  stream_->ended.store(true, std::memory_order_release);
  for (Runner& runner : lanes_) {
    if (!drain) runner.lane->stop();
    if (drain && stream_->options.threads == 0) runner.lane->step(~std::size_t{0});
  }
  stream_->work.ring();
  for (Runner& runner : lanes_) {
    if (Status s = await_end(runner, patience); !s.ok()) return s;
    runner.lane->record_rest("the writer was closed before this write was applied");
    runner.lane->set_gone();
  }
  close_done_ = true;
  return {};
}

std::vector<std::uint32_t> DualWriter::lanes() const {
  const std::shared_lock lock(lanes_mutex_);
  std::vector<std::uint32_t> numbers;
  for (const Runner& runner : lanes_) numbers.push_back(runner.lane->number());
  return numbers;
}

Result<LaneStats> DualWriter::stats(std::uint32_t number) const {
  const auto lane = find(number);
  if (!lane.ok()) return lane.error();
  return lane.value()->stats();
}

Result<std::vector<Failure>> DualWriter::failures(std::uint32_t number) const {
  const auto lane = find(number);
  if (!lane.ok()) return lane.error();
  return lane.value()->failures();
}

WriterStats DualWriter::stats() {
  stream_->look_for_gap();
  WriterStats stats;
  stats.accepted = accepted_.load(std::memory_order_acquire);
  const std::uint64_t published = stream_->ring.published();
  stats.entries = stream_->ring.claimed();
  stats.in_flight = stats.entries > published ? stats.entries - published : 0;
  stats.waits = waits_.load(std::memory_order_relaxed);
  stats.refusals = refusals_.load(std::memory_order_relaxed);
  stats.publish_gaps = stream_->gaps.count();
  return stats;
}

} // namespace embedcore::dualwrite
