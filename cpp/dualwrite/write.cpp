// The producers' side of a DualWriter: check, claim, fill, publish; and waiting for tickets.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "dualwrite/dual_writer.h"
#include "dualwrite/refusals.h"
#include "hnsw/validate.h"

namespace embedcore::dualwrite {

namespace {

std::string lane_name(std::size_t lane) { return "lane " + std::to_string(lane); }

void raise_to(std::atomic<std::uint64_t>& highest, std::uint64_t value) {
  std::uint64_t now = highest.load(std::memory_order_relaxed);
  while (now < value && !highest.compare_exchange_weak(now, value, std::memory_order_acq_rel)) {
  }
}

} // namespace

Status DualWriter::check(const Writes& writes) const {
  if (Status s = hnsw::check_ids(writes.ids); !s.ok()) return s;
  if (writes.sequences.empty()) return {};
  if (writes.sequences.size() != writes.ids.size()) {
    return refuse(std::to_string(writes.sequences.size()) + " sequences came for " +
                  std::to_string(writes.ids.size()) + " ids; give one each");
  }
  std::uint64_t before = 0;
  for (const std::uint64_t sequence : writes.sequences) {
    if (sequence <= before) {
      return refuse("sequence " + std::to_string(sequence) + " comes after " + std::to_string(before) +
                    "; they count from 1 and ascend within a call");
    }
    before = sequence;
  }
  return {};
}

// Everything that depends on which lanes there are.
Status DualWriter::resolve(const Layout& layout, const Writes& writes, Plan& plan) const {
  plan.count = 0;
  plan.version = layout.version;
  if (writes.rows.size() > layout.numbers) {
    return refuse(std::to_string(writes.rows.size()) + " arrays came for " + std::to_string(layout.numbers) +
                  " lanes; give one per lane, None where a lane has no vector yet");
  }
  const auto gate_of = [&](std::size_t lane) {
    return std::find_if(layout.gates.begin(), layout.gates.end(),
                        [&](const auto& pair) { return pair.first == lane; });
  };
  for (std::size_t lane = 0; lane < writes.rows.size(); ++lane) {
    const Writes::Rows& rows = writes.rows[lane];
    if (rows.data == nullptr) continue;
    Column* column = layout.column_of(static_cast<std::uint32_t>(lane));
    if (column == nullptr) {
      if (gate_of(lane) == layout.gates.end()) continue; // detached: its caller need not know yet
      return refuse(lane_name(lane) + " takes the vectors of another lane; give None in its place");
    }
    if (rows.dim != column->rules().dim) {
      return refuse(lane_name(lane) + " holds vectors of " + std::to_string(column->rules().dim) +
                    " dimensions, the array has " + std::to_string(rows.dim));
    }
    const std::string noun = lane_name(lane) + ": vector";
    if (Status s = hnsw::check_vectors(column->rules(), rows.data, writes.ids.size(), noun.c_str()); !s.ok())
      return s;
    if (Status s = hnsw::check_fits(column->rules(), rows.data, writes.ids.size()); !s.ok()) return s;
    plan.columns[plan.count++] = {column, rows.data};
  }
  plan.lanes = all_lanes;
  if (!writes.only_lanes) return {};
  plan.lanes = 0;
  for (const std::uint32_t lane : *writes.only_lanes) {
    const auto gate = gate_of(lane);
    if (gate == layout.gates.end()) return {Code::not_found, "there is no " + lane_name(lane)};
    plan.lanes |= std::uint32_t{1} << gate->second;
  }
  return {};
}

Result<std::uint64_t> DualWriter::write(const Writes& writes, const Patience& patience) {
  if (closed()) return closed_error();
  const std::size_t n = writes.ids.size();
  if (n == 0) return accepted_.load(std::memory_order_acquire);
  if (Status s = check(writes); !s.ok()) return s.error();
  const auto most = static_cast<std::size_t>(stream_->ring.capacity());
  if (n > most && patience.timeout) {
    return refuse(std::to_string(n) + " writes do not fit into a ring of " + std::to_string(most) +
                  " at once; give fewer, no timeout, or the writer a larger capacity");
  }
  Plan plan;
  {
    const auto guard = epochs_.pin();
    if (Status s = resolve(*layout_.load(std::memory_order_acquire), writes, plan); !s.ok()) return s.error();
  }
  if (Status s = stream_->numbering.choose(!writes.sequences.empty()); !s.ok()) return s.error();
  Result<std::uint64_t> ticket = std::uint64_t{0};
  for (std::size_t from = 0; from < n && ticket.ok(); from += most) {
    ticket = write_piece(writes, from, std::min(most, n - from), plan, patience);
  }
  return ticket;
}

Result<std::uint64_t> DualWriter::write_piece(const Writes& writes, std::size_t from, std::size_t n,
                                              Plan& plan, const Patience& patience) {
  Status refusal;
  std::optional<std::uint64_t> ticket = try_write(writes, from, n, plan, refusal);
  if (!ticket && refusal.ok()) {
    waits_.fetch_add(1, std::memory_order_relaxed);
    const Waited waited = wait_at(
        stream_->room,
        [&] {
          ticket = try_write(writes, from, n, plan, refusal);
          return ticket.has_value() || !refusal.ok();
        },
        patience);
    stream_->look_for_gap();
    if (waited == Waited::interrupted)
      return Error{Code::cancelled, "the write was stopped while it waited for room"};
    if (waited == Waited::timed_out) {
      refusals_.fetch_add(1, std::memory_order_relaxed);
      return Error{Code::resource_exhausted, "the ring of " + std::to_string(stream_->ring.capacity()) +
                                                 " has no room for " + std::to_string(n) +
                                                 "; its slowest lane has to go on first"};
    }
  }
  if (!refusal.ok()) return refusal.error();
  return *ticket;
}

// Nothing, and no refusal: the ring is full. No epoch is held while a caller waits.
std::optional<std::uint64_t> DualWriter::try_write(const Writes& writes, std::size_t from, std::size_t n,
                                                   Plan& plan, Status& refusal) {
  const auto guard = epochs_.pin();
  if (closed()) {
    refusal = closed_error();
    return std::nullopt;
  }
  const Layout& layout = *layout_.load(std::memory_order_acquire);
  if (layout.version != plan.version) {
    refusal = resolve(layout, writes, plan);
    if (!refusal.ok()) return std::nullopt;
  }
  const auto sequences = writes.sequences.empty() ? writes.sequences : writes.sequences.subspan(from, n);
  auto first = stream_->numbering.claim(stream_->ring, n, sequences);
  if (!first && stream_->ring.park_blockers(n) > 0) {
    stream_->work.ring();
    first = stream_->numbering.claim(stream_->ring, n, sequences);
  }
  if (!first) return std::nullopt;
  fill(writes, from, n, plan, *first);
  stream_->ring.publish(*first, n);
  stream_->work.ring();
  const std::uint64_t ticket = sequences.empty() ? WriteRing::after(*first, n - 1) : sequences.back();
  raise_to(accepted_, ticket);
  return ticket;
}

void DualWriter::fill(const Writes& writes, std::size_t from, std::size_t n, const Plan& plan,
                      std::uint64_t first) {
  WriteRing& ring = stream_->ring;
  std::uint32_t present = 0;
  for (std::size_t c = 0; c < plan.count; ++c) {
    const auto& [column, rows] = plan.columns[c];
    present |= column->bit();
    const std::size_t dim = column->rules().dim;
    for (std::size_t i = 0; i < n;) { // in at most two pieces, as the ring goes round
      const std::size_t place = ring.place(WriteRing::after(first, i));
      const std::size_t run = std::min(n - i, ring.size() - place);
      std::memcpy(column->row(place), rows + (from + i) * dim, run * dim * sizeof(float));
      i += run;
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t position = WriteRing::after(first, i);
    Entry& entry = ring.entry(position);
    entry.sequence = writes.sequences.empty() ? position : writes.sequences[from + i];
    entry.id = writes.ids[from + i];
    entry.present = present;
    entry.lanes = plan.lanes;
    entry.op = writes.op;
  }
}

Status DualWriter::wait(std::uint64_t ticket, const Patience& patience) {
  const std::uint64_t accepted = accepted_.load(std::memory_order_acquire);
  if (ticket > accepted) {
    return refuse("ticket " + std::to_string(ticket) + " was not given out; the last is " +
                  std::to_string(accepted));
  }
  // After late writes a number says nothing about what came before it: then all that was accepted by now.
  const bool by_position = stream_->numbering.ever_late();
  const std::uint64_t goal = by_position ? stream_->ring.claimed() : ticket;
  std::vector<std::shared_ptr<Lane>> waiting;
  {
    const std::shared_lock lock(lanes_mutex_);
    for (const Runner& runner : lanes_) waiting.push_back(runner.lane);
  }
  bool lost = false;
  const auto reached = [&] {
    std::erase_if(waiting, [&](const std::shared_ptr<Lane>& lane) {
      const bool gone = lane->gone(); // before the look at how far it came
      if ((by_position ? lane->position() : lane->sequence()) >= goal) return true;
      lost = lost || (gone && closed());
      return gone; // detached, or closed
    });
    return waiting.empty();
  };
  switch (wait_at(stream_->progress, reached, patience)) {
    case Waited::met:
      break;
    case Waited::timed_out:
      return {Code::deadline_exceeded, "ticket " + std::to_string(ticket) + " is not applied yet by " +
                                           lane_name(waiting.front()->number())};
    case Waited::interrupted:
      return {Code::cancelled, "the wait was stopped"};
  }
  if (lost)
    return {Code::unavailable,
            "the writer was closed before every lane had applied ticket " + std::to_string(ticket)};
  return {};
}

} // namespace embedcore::dualwrite
