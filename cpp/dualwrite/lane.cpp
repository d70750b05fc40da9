// A lane's turns: copy entries out of the ring, then apply them in runs.
#include "dualwrite/lane.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "common/mutant.h"

namespace embedcore::dualwrite {

namespace {

// A turn: enough for several threads to share and for one call to cost little, little enough for memory.
constexpr std::size_t turn_entries = 64;
constexpr std::size_t turn_bytes = std::size_t{1} << 20;

std::size_t limit_of(std::uint32_t dim) {
  return std::clamp<std::size_t>(turn_bytes / (dim * sizeof(float)), 1, turn_entries);
}

// A target may be foreign code.
template <class Call>
Status guarded(const Call& call) {
  try {
    return call();
  } catch (const std::exception& error) {
    return {Code::internal, error.what()};
  }
}

} // namespace

void Lane::Batch::clear() {
  ids.clear();
  sequences.clear();
  kinds.clear();
  rows.clear();
  reasons.clear();
}

Lane::Lane(std::shared_ptr<Stream> stream, Spec spec)
    : stream_(std::move(stream)),
      spec_(std::move(spec)),
      batch_limit_(limit_of(spec_.column->rules().dim)),
      position_(spec_.position),
      sequence_(spec_.sequence) {
  batch_.ids.reserve(batch_limit_);
  batch_.sequences.reserve(batch_limit_);
  batch_.kinds.reserve(batch_limit_);
  batch_.rows.reserve(batch_limit_ * spec_.column->rules().dim);
}

std::size_t Lane::step(std::size_t most) {
  const std::lock_guard lock(turn_mutex_);
  std::size_t done = 0;
  // A stopped lane's gate may be another lane's already.
  while (done < most && !stopping_.load(std::memory_order_acquire)) {
    const Turned turned = turn(std::min(most - done, batch_limit_));
    if (turned.applied == 0) break;
    done += turned.applied;
  }
  return done;
}

void Lane::run() {
  using std::chrono::milliseconds;
  while (!stopping_.load(std::memory_order_acquire)) {
    for (auto n = wanted_.load(std::memory_order_acquire); n != 0;
         n = wanted_.load(std::memory_order_acquire)) {
      wanted_.wait(n, std::memory_order_acquire);
    }
    const bool ended = stream_->ended.load(std::memory_order_acquire); // before the look at what is left
    const auto once = [&] {
      const std::lock_guard lock(turn_mutex_);
      return turn(batch_limit_);
    };
    if (once().applied != 0) continue;
    const std::uint32_t key = stream_->work.key();
    const Turned turned = once();
    if (turned.applied != 0) continue;
    // A parked lane whose source has nothing more to give at the end stays where it is.
    if (turned.turn == Turn::absent || ended) break;
    if (stopping_.load(std::memory_order_acquire)) break;
    if (stream_->ended.load(std::memory_order_acquire)) continue;
    Deadline until = no_deadline;
    const auto now = std::chrono::steady_clock::now();
    if (turned.turn == Turn::parked) until = now + milliseconds(10);
    if (turned.turn == Turn::empty && stream_->ring.published() != stream_->ring.claimed()) {
      stream_->look_for_gap();
      until = now + std::max<std::chrono::nanoseconds>(stream_->options.gap_threshold, milliseconds(1));
    }
    stream_->work.wait(key, until);
  }
  set_gone();
}

void Lane::stop() {
  stopping_.store(true, std::memory_order_release);
  stream_->work.ring();
}

void Lane::set_gone() {
  gone_.store(true, std::memory_order_release);
  stream_->progress.ring();
}

Lane::Turned Lane::turn(std::size_t most) {
  WriteRing::Position first = 0;
  std::size_t count = 0;
  const Turn turn = stream_->ring.begin(spec_.gate, most, first, count);
  if (turn == Turn::parked) {
    if (!parked_) parkings_.fetch_add(1, std::memory_order_relaxed);
    parked_ = true;
    return catch_up(most);
  }
  if (turn != Turn::ready) return {0, turn};
  collect(first, count);
  stream_->ring.end(spec_.gate, count);
  stream_->room.ring();
  std::uint64_t newest = 0;
  for (const std::uint64_t sequence : batch_.sequences) newest = std::max(newest, sequence);
  apply();
  advance(WriteRing::after(first, count - 1), newest);
  return {count, turn};
}

void Lane::collect(std::uint64_t first, std::size_t count) {
  batch_.clear();
  const Column& column = *spec_.column;
  const bool versioned = stream_->numbering.by_callers();
  for (std::size_t i = 0; i < count; ++i) {
    const auto position = WriteRing::after(first, i);
    const Entry& entry = stream_->ring.entry(position);
    if (mutant("lost_lane_write") && i > 0 && i + 1 == count) {
      push(entry.id, entry.sequence, Kind::skip, nullptr);
      continue;
    }
    const bool chosen =
        entry.lanes == all_lanes || (position > spec_.born && (entry.lanes >> spec_.gate & 1u) != 0);
    if (!chosen) {
      push(entry.id, entry.sequence, Kind::skip, nullptr);
    } else if (versioned && !versions_.advance(entry.id, entry.sequence)) {
      ignored_.fetch_add(1, std::memory_order_relaxed);
      push(entry.id, entry.sequence, Kind::skip, nullptr);
    } else if (entry.op == Op::remove) {
      push(entry.id, entry.sequence, Kind::remove, nullptr);
    } else if ((entry.present & column.bit()) == 0 || position <= column.born()) {
      push(entry.id, entry.sequence, Kind::missing, nullptr);
    } else {
      push(entry.id, entry.sequence, Kind::upsert, column.row(stream_->ring.place(position)));
    }
  }
}

void Lane::push(std::int64_t id, std::uint64_t sequence, Kind kind, const float* row) {
  batch_.ids.push_back(id);
  batch_.sequences.push_back(sequence);
  batch_.kinds.push_back(kind);
  if (kind == Kind::upsert) batch_.rows.insert(batch_.rows.end(), row, row + spec_.column->rules().dim);
}

// In runs of one kind in which no id comes twice: one call each, and in order per item.
void Lane::apply() {
  const std::size_t dim = spec_.column->rules().dim;
  const float* rows = batch_.rows.data();
  const auto& ids = batch_.ids;
  for (std::size_t from = 0; from < ids.size();) {
    const Kind kind = batch_.kinds[from];
    std::size_t to = from + 1;
    const auto seen = [&](std::int64_t id) {
      return std::find(ids.begin() + static_cast<std::ptrdiff_t>(from),
                       ids.begin() + static_cast<std::ptrdiff_t>(to),
                       id) != ids.begin() + static_cast<std::ptrdiff_t>(to);
    };
    while (to < ids.size() && batch_.kinds[to] == kind && !seen(ids[to])) ++to;
    if (kind == Kind::upsert) {
      apply_upserts(from, to, rows);
      rows += (to - from) * dim;
    } else if (kind != Kind::skip) {
      apply_removes(from, to);
    }
    from = to;
  }
}

void Lane::apply_upserts(std::size_t from, std::size_t to, const float* rows) {
  Target& target = *spec_.target;
  const unsigned threads = std::max(1u, stream_->options.threads);
  const std::span<const std::int64_t> ids(batch_.ids.data() + from, to - from);
  if (guarded([&] { return target.add(ids, rows, threads); }).ok()) {
    for (std::size_t i = from; i < to; ++i) succeed(i);
    return;
  }
  for (std::size_t i = from; i < to; ++i, rows += spec_.column->rules().dim) {
    const std::span<const std::int64_t> one(batch_.ids.data() + i, 1);
    const Status status = guarded([&] { return target.add(one, rows, 1); });
    if (status.ok()) {
      succeed(i);
      continue;
    }
    fail(i, status.error().message);
    // What is left of an older version would be taken for this one. Nothing more can be done if it stays.
    static_cast<void>(guarded([&] { return target.remove(one); }).ok());
  }
}

void Lane::apply_removes(std::size_t from, std::size_t to) {
  Target& target = *spec_.target;
  const bool missing = batch_.kinds[from] == Kind::missing;
  const std::span<const std::int64_t> ids(batch_.ids.data() + from, to - from);
  const bool together = guarded([&] { return target.remove(ids); }).ok();
  for (std::size_t i = from; i < to; ++i) {
    const Status status =
        together ? Status() : guarded([&] { return target.remove(ids.subspan(i - from, 1)); });
    if (missing) {
      const auto reason = batch_.reasons.find(i);
      if (reason == batch_.reasons.end()) missing_.fetch_add(1, std::memory_order_relaxed);
      fail(i, reason == batch_.reasons.end() ? "no vector yet" : reason->second);
    } else if (status.ok()) {
      succeed(i);
    } else {
      fail(i, status.error().message);
    }
  }
}

void Lane::succeed(std::size_t i) {
  successes_.fetch_add(1, std::memory_order_relaxed);
  failures_.take(batch_.ids[i]);
}

void Lane::fail(std::size_t i, const std::string& reason) {
  failed_.fetch_add(1, std::memory_order_relaxed);
  failures_.put(batch_.ids[i], batch_.sequences[i], reason);
}

void Lane::advance(std::uint64_t position, std::uint64_t sequence) {
  if (sequence > sequence_.load(std::memory_order_relaxed))
    sequence_.store(sequence, std::memory_order_release);
  position_.store(position, std::memory_order_release);
  stream_->progress.ring();
}

} // namespace embedcore::dualwrite
