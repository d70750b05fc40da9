// A DualWriter's beginning, end and counts.
#include "dualwrite/dual_writer.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "dualwrite/refusals.h"

namespace embedcore::dualwrite {

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
    for (auto* runners : {&lanes_, &leaving_}) {
      for (Runner& runner : *runners) {
        if (runner.thread.joinable()) runner.thread.detach();
      }
    }
    return;
  }
  Patience patience;
  patience.timeout = std::chrono::seconds(1);
  static_cast<void>(close(false, patience).ok());
  for (auto* runners : {&lanes_, &leaving_}) {
    for (Runner& runner : *runners) {
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
  // No producer works by an older layout from here on: a place or gate that is given to another lane is that
  // lane's alone. Producers hold no epoch while they wait.
  epochs_.synchronize();
  delete old;
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
  for (Runner& runner : leaving_) {
    if (Status s = await_end(runner, patience); !s.ok()) return s;
  }
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
