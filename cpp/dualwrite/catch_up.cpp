// A parked lane: catches up from its source of record, and joins the ring again.
//
// In rounds. A round takes the end of the stream as it is (position and sequence number), then applies what
// the source has until it has that number. After it everything up to the position is applied, and if the ring
// still holds all that came since, the lane reads on there. Rounds get shorter as long as the lane is faster
// than the producers; one that is slower stays parked.
//
// Why nothing is missed: a write with a position of the round has a number of at most the round's, and was in
// the source before it was claimed. The next round asks from the number after this round's; what is claimed
// later with a lower number is late, which the stream's numbering knows, and the next round asks from there.
#include <algorithm>
#include <exception>
#include <string>
#include <utility>

#include "dualwrite/lane.h"
#include "hnsw/validate.h"

namespace embedcore::dualwrite {

Lane::Turned Lane::catch_up(std::size_t most) {
  for (;;) {
    if (!round_) {
      const std::uint64_t reached = sequence_.load(std::memory_order_relaxed);
      round_ = stream_->numbering.head(stream_->ring, position_.load(std::memory_order_relaxed));
      next_ = std::min(reached + 1, round_->late);
    }
    if (next_ > round_->sequence) {
      rejoin();
      if (!parked_) return turn(most);
      continue;
    }
    if (!take_from_source(most)) return {0, Turn::parked};
    return {writes_.ids.size(), Turn::parked};
  }
}

// The round is done. Parked still, where another one is needed first.
void Lane::rejoin() {
  const Numbering::Head reached = *round_;
  advance(reached.position, reached.sequence);
  round_.reset();
  const std::int64_t behind = WriteRing::ahead(stream_->ring.claimed(), reached.position);
  // Half a ring, so that it is not parked again at once.
  if (behind > (stream_->ring.capacity() + 1) / 2) return;
  const std::lock_guard lock(stream_->joining);
  parked_ = !stream_->ring.join(spec_.gate, reached.position, may_park());
}

// One call of the source, applied. False: nothing came.
bool Lane::take_from_source(std::size_t most) {
  writes_.clear();
  Status status;
  try {
    status = spec_.source(next_, std::min(most, batch_limit_), writes_);
  } catch (const std::exception& error) {
    status = {Code::internal, error.what()};
  }
  if (status.ok()) status = check_writes(writes_);
  {
    const std::lock_guard lock(error_mutex_);
    source_error_ = status.error().message;
  }
  if (!status.ok() || writes_.ids.empty()) return false;
  collect_writes();
  apply();
  caught_up_.fetch_add(writes_.ids.size(), std::memory_order_relaxed);
  next_ = writes_.sequences.back() + 1;
  // Not beyond the round: what the source shows of later writes may have gaps that are filled later.
  advance(position_.load(std::memory_order_relaxed), std::min(writes_.sequences.back(), round_->sequence));
  return true;
}

Status Lane::check_writes(const SourceWrites& writes) const {
  const auto refuse = [](std::string what) { return Status(Code::invalid_argument, std::move(what)); };
  const std::size_t n = writes.ids.size();
  const auto upserts = std::count(writes.kinds.begin(), writes.kinds.end(), SourceWrites::Kind::upsert);
  const std::size_t floats = static_cast<std::size_t>(upserts) * spec_.column->rules().dim;
  if (writes.sequences.size() != n || writes.kinds.size() != n || writes.rows.size() != floats) {
    return refuse(
        "the source's writes are not of one length; each needs sequence, id, kind, and a vector of " +
        std::to_string(spec_.column->rules().dim) + " dimensions if it is an upsert");
  }
  std::uint64_t least = next_;
  for (std::size_t i = 0; i < n; ++i) {
    if (writes.sequences[i] < least) {
      return refuse("the source gave sequence " + std::to_string(writes.sequences[i]) + " where at least " +
                    std::to_string(least) + " was asked for; give writes in ascending order");
    }
    if (writes.ids[i] < 0) return refuse("the source gave the negative id " + std::to_string(writes.ids[i]));
    least = writes.sequences[i] + 1;
  }
  return {};
}

void Lane::collect_writes() {
  batch_.clear();
  const hnsw::Config& rules = spec_.column->rules();
  const bool versioned = stream_->numbering.by_callers();
  const float* row = writes_.rows.data();
  for (std::size_t i = 0; i < writes_.ids.size(); ++i) {
    const std::int64_t id = writes_.ids[i];
    const std::uint64_t sequence = writes_.sequences[i];
    const SourceWrites::Kind kind = writes_.kinds[i];
    const float* own = row;
    if (kind == SourceWrites::Kind::upsert) row += rules.dim;
    if (versioned && !versions_.advance(id, sequence)) {
      ignored_.fetch_add(1, std::memory_order_relaxed);
      push(id, sequence, Kind::skip, nullptr);
      continue;
    }
    if (kind != SourceWrites::Kind::upsert) {
      push(id, sequence, kind == SourceWrites::Kind::remove ? Kind::remove : Kind::missing, nullptr);
      continue;
    }
    Status status = hnsw::check_vectors(rules, own, 1, "the source's vector");
    if (status.ok()) status = hnsw::check_fits(rules, own, 1);
    if (!status.ok()) batch_.reasons[i] = status.error().message;
    push(id, sequence, status.ok() ? Kind::upsert : Kind::missing, own);
  }
}

} // namespace embedcore::dualwrite
