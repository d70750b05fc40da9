// Rounds of upkeep: which phase follows which, and who does the next step. What a step does is in repair.cpp,
// compact.cpp and relocate.cpp.
#include "hnsw/upkeep.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>

#include "hnsw/impl.h"
#include "hnsw/parallel.h"

namespace embedcore::hnsw {

namespace {

constexpr Slot looked_at = 8192; // states a step looks at
constexpr Slot swept = 16;       // nodes whose lists a step looks at

bool spent(const Budget& budget) { return budget.spent && budget.spent(); }

} // namespace

Budget Budget::seconds(double time, unsigned threads) {
  using Clock = std::chrono::steady_clock;
  const auto most = std::chrono::duration<double>(time > 0 ? std::min(time, 1e9) : 0.0);
  const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(most);
  return {[until] { return Clock::now() >= until; }, threads};
}

// A search that began before an item was replaced may know neither its new slot nor, once repair has cut
// the old one off, that. So repair leaves alone what such a search could still be looking for.
std::uint64_t Index::Impl::horizon(const Budget& budget) {
  const std::uint64_t now = seen_switches(ended.load(std::memory_order_acquire));
  epochs.retire([this, now] {
    std::uint64_t known = settled.load(std::memory_order_relaxed);
    while (known < now && !settled.compare_exchange_weak(known, now, std::memory_order_acq_rel)) {
    }
  });
  // Bounded: a search that hangs in a callback must not hang upkeep too. A thread that is inside a search
  // itself does not wait at all.
  const int tries = Pin::depth == 0 ? 2000 : 1;
  for (int i = 0; i < tries; ++i) {
    reclaim();
    if (settled.load(std::memory_order_acquire) >= now || (i > 0 && spent(budget))) break;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return settled.load(std::memory_order_acquire);
}

Report Index::Impl::run_upkeep(Verb verb, const Budget& budget) {
  // Whoever calls until all is done must not spin while a snapshot puts relocation off.
  while (verb == Verb::relocate && saving.load(std::memory_order_acquire) != 0 && !spent(budget)) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  reclaim(); // what an earlier call retired may be free by now
  const std::uint64_t until = verb == Verb::relocate ? 0 : horizon(budget);
  Report total;
  std::mutex adding;
  run_workers(workers_for(budget.threads, most_workers), [&](unsigned) {
    const Report part = work(verb, until, budget);
    const std::lock_guard lock(adding);
    total.examined += part.examined;
    total.changed += part.changed;
    total.freed += part.freed;
    total.done = total.done || part.done;
  });
  reclaim();
  // Tombstones too young for this call, or slots that have come free since.
  if (verb == Verb::relocate ? movable() : unrepaired() != 0) total.done = false;
  return total;
}

// Steps of the round under way, then of one round of this verb. done: that one has ended, or is not needed.
Report Index::Impl::work(Verb verb, std::uint64_t until, const Budget& budget) {
  Report report;
  std::uint64_t own = 0; // the round of this verb that this call began
  std::unique_lock turn(upkeep.turn);
  for (;;) {
    if (own != 0 && (upkeep.verb == Verb::none || upkeep.number != own)) {
      report.done = true;
      return report;
    }
    if (upkeep.verb == Verb::none) {
      if (!begin_round(verb, until)) {
        report.done = true;
        return report;
      }
      own = upkeep.number;
    }
    step(turn, report);
    turn.unlock();
    const bool enough = spent(budget);
    turn.lock();
    if (enough) {
      report.done = own != 0 && (upkeep.verb == Verb::none || upkeep.number != own);
      return report;
    }
  }
}

// Pre-condition: turn held, no round under way. False: there is nothing to do.
bool Index::Impl::begin_round(Verb verb, std::uint64_t until) {
  upkeep.phase = Phase::mark;
  upkeep.horizon = until;
  upkeep.cursor = 0;
  upkeep.end = storage.end();
  upkeep.marked = 0;
  if (verb == Verb::relocate) {
    reclaim(); // what the round before retired
    const Slot last = last_kept();
    const bool moves = movable();
    if (!moves && last == upkeep.end) return false;
    upkeep.cursor = upkeep.lowest_moved = upkeep.end;
    upkeep.copies_end = 0;
    if (!moves) upkeep.phase = Phase::retire; // but a tail to trim
  } else if (unrepaired() == 0) {
    if (verb == Verb::repair || detached.load(std::memory_order_relaxed) == 0) return false;
    upkeep.phase = Phase::retire; // what repair has left
  }
  ++upkeep.number;
  upkeep.verb = verb;
  return true;
}

// One step of the round under way. turn is held at the beginning and at the end.
void Index::Impl::step(std::unique_lock<std::mutex>& turn, Report& report) {
  const auto enter = [this](Phase phase, Slot cursor, Slot end) {
    upkeep.phase = phase;
    upkeep.cursor = cursor;
    upkeep.end = end;
  };
  const auto finish = [this] { upkeep.verb = Verb::none; };
  const bool moving = upkeep.verb == Verb::relocate;
  const Slot from = upkeep.cursor;
  const Slot to = upkeep.end - from > looked_at ? from + looked_at : upkeep.end;
  switch (upkeep.phase) {
    case Phase::mark:
      if (moving) {
        if (move_some(report)) return;
        if (upkeep.marked == 0) return enter(Phase::retire, upkeep.end, upkeep.end);
        return enter(Phase::sweep, 0, storage.end());
      }
      upkeep.marked += mark_leaving(from, to);
      upkeep.cursor = to;
      if (to != upkeep.end) return;
      if (upkeep.marked != 0) return enter(Phase::enter, 0, 0);
      if (upkeep.verb == Verb::compact && detached.load(std::memory_order_relaxed) != 0)
        return enter(Phase::retire, 0, storage.end());
      return finish();
    case Phase::enter:
      return enter(Phase::sweep, 0, leave_entry());
    case Phase::sweep:
      if (from != upkeep.end) {
        const Slot piece = std::min(to, from + swept);
        upkeep.cursor = piece;
        ++upkeep.sweeping;
        turn.unlock();
        std::exception_ptr failure;
        try {
          sweep(from, piece, moving, report);
        } catch (...) { // no memory
          failure = std::current_exception();
        }
        turn.lock();
        if (failure) upkeep.cursor = std::min(upkeep.cursor, from); // again, by whoever comes next
        --upkeep.sweeping;
        upkeep.returned.notify_all();
        if (failure) std::rethrow_exception(failure);
      } else if (upkeep.sweeping != 0) { // by others; not longer than a budget can wait
        upkeep.returned.wait_for(turn, std::chrono::milliseconds(1));
        return;
      }
      if (upkeep.cursor != upkeep.end || upkeep.sweeping != 0) return;
      if (moving) return enter(Phase::retire, upkeep.lowest_moved, storage.end());
      return enter(Phase::contract, 0, storage.end());
    case Phase::contract:
      upkeep.cursor = contract_some(from, to);
      if (upkeep.cursor != upkeep.end) return;
      if (upkeep.verb == Verb::compact) return enter(Phase::retire, 0, storage.end());
      return finish();
    case Phase::retire:
      report.freed += retire_some(from, to, moving ? State::moved : State::detached);
      upkeep.cursor = to;
      if (to != upkeep.end) return;
      if (moving) report.freed += trim_tail();
      return finish();
  }
}

// The lists of attached nodes among these slots. Beside writers and other sweepers.
void Index::Impl::sweep(Slot from, Slot to, bool moving, Report& report) {
  const std::shared_lock share(gate);
  const Pin pin(*this);
  const ScratchPool::Lease lease(scratches);
  for (Slot slot = from; slot < to; ++slot) {
    // A pending node came after all were marked, and links to none of them.
    const State state = storage.state(slot);
    if (state != State::live && state != State::tombstone) continue;
    ++report.examined;
    bool changed = false;
    for (std::uint32_t level = 0; level <= storage.node(slot).level; ++level) {
      if (moving) {
        redirect(slot, level);
      } else {
        changed = reconnect(slot, level, *lease) || changed;
      }
    }
    if (!changed) continue;
    ++report.changed;
    counters.reconnected.fetch_add(1, std::memory_order_relaxed);
  }
}

} // namespace embedcore::hnsw
