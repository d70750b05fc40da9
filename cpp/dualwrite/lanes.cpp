// Lanes of a DualWriter come, go, and change their index.
#include <algorithm>
#include <bit>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#include "dualwrite/dual_writer.h"
#include "dualwrite/refusals.h"

namespace embedcore::dualwrite {

namespace {

Status same_space(const Column& column, const hnsw::Config& rules, const std::string& what) {
  if (column.rules().dim != rules.dim) {
    return refuse(what + " has " + std::to_string(rules.dim) + " dimensions, the lane's vectors have " +
                  std::to_string(column.rules().dim));
  }
  if (column.rules().metric != rules.metric) return refuse(what + " has another metric than the lane's");
  return {};
}

} // namespace

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
  std::erase_if(leaving_, [&](Runner& runner) {
    if (!runner.lane->gone()) return false;
    runner.thread.join();
    withdraw(*runner.lane);
    return true;
  });
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
    try {
      runner.thread = std::thread([own = runner.lane] { own->run(); });
    } catch (const std::system_error& error) {
      {
        const std::lock_guard joining(stream_->joining);
        stream_->ring.close(runner.lane->gate());
      }
      stream_->room.ring();
      publish(std::make_unique<Layout>(before));
      return Error{Code::resource_exhausted, std::string("no thread for the lane: ") + error.what()};
    }
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
  if (!ended.ok()) { // its gate is nobody else's until its thread has come back
    leaving_.push_back(std::move(runner));
    return ended;
  }
  if (stream_->options.threads == 0) runner.lane->settle();
  runner.lane->set_gone();
  withdraw(*runner.lane);
  return {};
}

void DualWriter::withdraw(const Lane& lane) {
  auto layout = std::make_unique<Layout>(copy_of_layout());
  std::erase_if(layout->gates, [&](const auto& pair) { return pair.first == lane.number(); });
  const auto used = [&](const std::shared_ptr<Column>& column) {
    const std::shared_lock lock(lanes_mutex_);
    return std::any_of(lanes_.begin(), lanes_.end(),
                       [&](const Runner& other) { return other.lane->column() == column; });
  };
  std::erase_if(layout->columns, [&](const auto& column) { return !used(column); });
  publish(std::move(layout));
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

} // namespace embedcore::dualwrite
