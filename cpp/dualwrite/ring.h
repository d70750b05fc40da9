// The bounded ring of the write stream: many producers, and any number of lanes that read every entry in
// order, each at its own pace. Positions count from 1; an entry's place in memory is position mod size.
//
// A producer claims positions, writes the entries, publishes each, and goes on. A lane reads in order up to
// the first entry that is not published; its *gate* says how far it has read. A claim never runs more than
// `capacity` ahead of the slowest open gate. A parked gate holds nobody up: its lane has to get from
// elsewhere what it misses, and joins the ring again.
//
// Guarantees
//   * try_claim, publish, park and the reading of a lane are lock-free: no call waits for another thread,
//     and a CAS fails only because another thread's went through.
//   * A lane whose gate is open reads each position from the one after its start exactly once, in order, and
//     the entry it reads is that of the position: it is not overwritten before the gate has passed it.
//   * A producer that stops between claim and publish (a *gap*) stops the lanes there and, a ring later, the
//     producers; gap() tells. Nothing published is lost.
//
// State of a gate x operation (what else is tried leaves the state as it is and says so)
//            join          begin             end       park (producers)   close (control)
//   absent   -> open [1]   answers absent    -         -                  -
//   open     -             -> reading        -         -> parked          -> absent
//   reading  -             -                 -> open   tried again later  tried until it is open
//   parked   -> open       answers parked    -         -                  -> absent
//   [1] or -> parked, by start_parked
//
// Atomics, and who writes each
//   claimed_    version | last position claimed. Producers CAS the position on; join CASes the version on.
//   Slot::seq   the position whose entry is complete here. Its producer stores it, once per lap.
//   published_  a position up to which all is published: a hint that only grows (CAS).
//   Gate::word  position read up to | state. Its lane stores it while reading; producers CAS open -> parked;
//               control (one thread at a time) stores open in join and CASes -> absent in close.
//   floor_      version | a position that no open gate is behind, as computed under that version: saves
//               producers the look at all gates. Producers and join store it.
//   used_       how many gates were ever joined; join stores it.
//
// Why it is right, by pairs
//   (1) publish's store of seq [release] -> begin's load [acquire]: a lane sees the whole entry.
//   (2) end's store of the gate [release] -> lowest's load [acquire] -> floor_ [release] -> another
//       producer's load [acquire]: the lane has read the entry before anyone overwrites it.
//   (3) join stores the gate, then moves the version of claimed_ on [acq_rel]. A producer loads claimed_
//       [acquire] before it looks at gates and floor_, and its claim is a CAS from what it loaded: either it
//       loaded the new version and sees the gate (all writes of claimed_ are read-modify-writes, so the
//       release carries on), or its CAS fails. A floor of another version is not used. So from the version
//       step on nobody claims past the new gate, and what was not overwritten by then stays.
//   (4) published_ only grows by what its writer saw in seq [acquire, then release]: who claims past it has
//       seen those entries complete, also where no gate is open.
//
// Counters wrap: positions are compared by difference, right while capacity is below half their range. A
// version comes round after 2^version_bits joins; a CAS is fooled only if that many joins and no claim at
// all fall into one producer's step between load and CAS.
//
// When not to use it: for one consumer (a plain queue is smaller), or where every producer's order must be
// the order of some other log (claim under that log's lock, as dual_writer.cpp does).
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>

#include "common/mutant.h"
#include "dualwrite/bell.h"

namespace embedcore::dualwrite {

enum class Turn : std::uint8_t { empty, ready, parked, absent };

// Word: what positions and versions share; its high version_bits are the version. 64 bits: 2^52 positions,
// 71 years at two million a second. Thread safety: as said above; one thread at a time per gate for begin
// and end, one for join and close.
template <class Entry, class Policy = StdAtomics, class Word = std::uint64_t, unsigned version_bits = 12>
class Ring {
  template <class T>
  using Atomic = typename Policy::template Atomic<T>;
  enum State : unsigned { absent = 0, open = 1, reading = 2, parked = 3 };

  static constexpr unsigned position_bits = std::numeric_limits<Word>::digits - version_bits;
  static constexpr Word mask = static_cast<Word>(static_cast<Word>(~Word{0}) >> version_bits);
  static_assert(version_bits >= 2, "a gate keeps its state in the bits that positions leave free");

  struct Slot {
    Atomic<Word> seq{0};
    Entry entry{};
  };
  struct alignas(64) Gate {
    Atomic<Word> word{0};
    Atomic<bool> parkable{false};
  };

 public:
  using Position = Word;
  static constexpr std::size_t max_gates = 32;

  // capacity: 1 and more, below half the range of positions.
  explicit Ring(std::size_t capacity)
      : capacity_(static_cast<std::int64_t>(capacity)),
        size_(std::bit_ceil(capacity)),
        slots_(std::make_unique<Slot[]>(size_)) {
    // A lap behind, so that no place looks published before its first entry is.
    for (std::size_t i = 0; i < size_; ++i) {
      slots_[i].seq.store(wrap(static_cast<std::uint64_t>(i) - size_), std::memory_order_relaxed);
    }
  }

  [[nodiscard]] static Word after(Word position, std::uint64_t n) { return wrap(position + n); }
  // a - b, signed.
  [[nodiscard]] static std::int64_t ahead(Word a, Word b) {
    const auto forward = static_cast<std::int64_t>(wrap(static_cast<std::uint64_t>(a) - b));
    constexpr auto range = static_cast<std::int64_t>(mask) + 1;
    return forward > range / 2 ? forward - range : forward;
  }

  [[nodiscard]] std::int64_t capacity() const { return capacity_; }
  [[nodiscard]] std::size_t size() const { return size_; } // places in memory
  [[nodiscard]] std::size_t place(Word position) const { return position & (size_ - 1); }
  // For the producer that claimed it, until it publishes; for a lane, between begin and end.
  [[nodiscard]] Entry& entry(Word position) { return slots_[place(position)].entry; }

  // Producers. The first of n positions, or nothing while there is no room for all. n <= capacity.
  [[nodiscard]] std::optional<Word> try_claim(std::size_t n) {
    Word seen = claimed_.load(std::memory_order_acquire); // pair (3)
    for (;;) {
      const Word last = after(position_of(seen), n);
      const Word floor = floor_.load(std::memory_order_acquire); // pair (2)
      if (version_of(floor) != version_of(seen) || ahead(last, position_of(floor)) > capacity_) {
        const Word low = lowest();
        if (ahead(last, low) > capacity_) {
          const Word now = claimed_.load(std::memory_order_acquire);
          if (now == seen) return std::nullopt;
          seen = now;
          continue;
        }
        floor_.store(pack(low, version_of(seen)), std::memory_order_release);
      }
      const Word wanted = pack(last, version_of(seen));
      if (claimed_.compare_exchange_weak(seen, wanted, std::memory_order_acq_rel,
                                         std::memory_order_acquire)) {
        return after(last, 1 - static_cast<std::uint64_t>(n));
      }
    }
  }

  void publish(Word first, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      const Word position = after(first, i);
      slots_[place(position)].seq.store(position, std::memory_order_release); // pair (1)
    }
  }

  // Producers, when n could not be claimed: parks the gates in the way and says how many it was. None, where
  // that would give no room: one in the way may not be parked, or is being read, or a gap is in the way.
  std::size_t park_blockers(std::size_t n) {
    const Word last = after(claimed(), n);
    if (ahead(last, published()) > capacity_) return 0;
    const std::size_t gates = used_.load(std::memory_order_acquire);
    std::array<Word, max_gates> seen{};
    for (std::size_t g = 0; g < gates; ++g) {
      seen[g] = gates_[g].word.load(std::memory_order_acquire);
      const State state = state_of(seen[g]);
      const bool blocks =
          (state == open || state == reading) && ahead(last, gate_position(seen[g])) > capacity_;
      if (!blocks) {
        seen[g] = gate_word(0, absent);
      } else if (state == reading || !gates_[g].parkable.load(std::memory_order_relaxed)) {
        return 0;
      }
    }
    std::size_t count = 0;
    for (std::size_t g = 0; g < gates; ++g) {
      if (state_of(seen[g]) != open) continue;
      count += gates_[g].word.compare_exchange_strong(seen[g], gate_word(gate_position(seen[g]), parked),
                                                      std::memory_order_acq_rel, std::memory_order_relaxed);
    }
    return count;
  }

  // Lanes. ready: positions first to first + count - 1, at most `most`, may be read until end.
  Turn begin(std::size_t g, std::size_t most, Word& first, std::size_t& count) {
    Gate& gate = gates_[g];
    Word word = gate.word.load(std::memory_order_acquire);
    for (;;) {
      if (state_of(word) == absent) return Turn::absent;
      if (state_of(word) == parked) return Turn::parked;
      first = after(gate_position(word), 1);
      if (most == 0 || !is_published(first)) return Turn::empty;
      if (gate.word.compare_exchange_weak(word, gate_word(gate_position(word), reading),
                                          std::memory_order_acq_rel, std::memory_order_acquire)) {
        break;
      }
    }
    count = 1;
    while (count < most && is_published(after(first, count))) ++count;
    return Turn::ready;
  }

  // The first `count` positions have been read; the rest of the turn stays unread.
  void end(std::size_t g, std::size_t count) {
    Gate& gate = gates_[g];
    const Word at = after(gate_position(gate.word.load(std::memory_order_relaxed)), count);
    gate.word.store(gate_word(at, open), std::memory_order_release); // pair (2)
  }

  // Control. The lane reads from the position after `from`; false, and the gate is as before, where that has
  // been overwritten. Pre-condition: the gate is absent, or parked and from is not behind it.
  [[nodiscard]] bool join(std::size_t g, Word from, bool may_park) {
    if (ahead(claimed(), from) > capacity_) return false;
    Gate& gate = gates_[g];
    const Word before = gate.word.load(std::memory_order_relaxed);
    gate.parkable.store(may_park, std::memory_order_relaxed);
    gate.word.store(gate_word(from, open), std::memory_order_release);
    if (g >= used_.load(std::memory_order_relaxed)) used_.store(g + 1, std::memory_order_release);
    Word seen = claimed_.load(std::memory_order_relaxed);
    while (!mutant("join_keeps_version") &&
           !claimed_.compare_exchange_weak(seen, pack(position_of(seen), version_of(seen) + 1u),
                                           std::memory_order_acq_rel,
                                           std::memory_order_relaxed)) { // pair (3)
    }
    if (ahead(position_of(seen), from) <= capacity_) return true;
    gate.word.store(before, std::memory_order_release);
    return false;
  }

  // Control. The lane begins parked. Pre-condition: the gate is absent.
  void start_parked(std::size_t g) {
    gates_[g].word.store(gate_word(0, parked), std::memory_order_release);
    if (g >= used_.load(std::memory_order_relaxed)) used_.store(g + 1, std::memory_order_release);
  }

  // Control. No lane reads through this gate any more, and nobody waits for it.
  void close(std::size_t g) {
    Gate& gate = gates_[g];
    Word word = gate.word.load(std::memory_order_relaxed);
    while (state_of(word) != absent) {
      if (state_of(word) != reading &&
          gate.word.compare_exchange_weak(word, gate_word(gate_position(word), absent),
                                          std::memory_order_acq_rel, std::memory_order_relaxed)) {
        return;
      }
      Policy::yield(); // a lane copies entries: microseconds
      word = gate.word.load(std::memory_order_relaxed);
    }
  }

  // Anyone.
  [[nodiscard]] Word claimed() const { return position_of(claimed_.load(std::memory_order_acquire)); }
  [[nodiscard]] Word read_up_to(std::size_t g) const {
    return gate_position(gates_[g].word.load(std::memory_order_acquire));
  }
  [[nodiscard]] bool is_parked(std::size_t g) const {
    return state_of(gates_[g].word.load(std::memory_order_acquire)) == parked;
  }
  // The position up to which everything is published.
  [[nodiscard]] Word published() {
    const Word known = published_.load(std::memory_order_acquire); // pair (4)
    Word now = known;
    while (is_published(after(now, 1))) now = after(now, 1);
    for (Word old = known; ahead(now, old) > 0;) {
      if (published_.compare_exchange_weak(old, now, std::memory_order_acq_rel, std::memory_order_acquire)) {
        break;
      }
    }
    return now;
  }

 private:
  [[nodiscard]] static Word wrap(std::uint64_t x) { return static_cast<Word>(static_cast<Word>(x) & mask); }
  [[nodiscard]] static Word position_of(Word word) { return static_cast<Word>(word & mask); }
  [[nodiscard]] static Word version_of(Word word) { return static_cast<Word>(word >> position_bits); }
  [[nodiscard]] static Word pack(Word position, std::uint64_t version) {
    return static_cast<Word>(position | static_cast<Word>(version << position_bits));
  }
  [[nodiscard]] static Word gate_word(Word position, State state) {
    return static_cast<Word>(static_cast<Word>(position << 2u) | static_cast<Word>(state));
  }
  [[nodiscard]] static Word gate_position(Word word) { return static_cast<Word>(word >> 2u); }
  [[nodiscard]] static State state_of(Word word) { return static_cast<State>(word & 3u); }

  [[nodiscard]] bool is_published(Word position) const {
    if (mutant("reads_unpublished")) return ahead(claimed(), position) >= 0;
    return slots_[place(position)].seq.load(std::memory_order_acquire) == position; // pairs (1), (4)
  }

  // No open gate, and nothing unpublished, is behind it.
  [[nodiscard]] Word lowest() {
    Word low = published();
    for (std::size_t g = 0; g < used_.load(std::memory_order_acquire); ++g) {
      const Word word = gates_[g].word.load(std::memory_order_acquire); // pair (2)
      const State state = state_of(word);
      if (state != open && state != reading) continue;
      if (ahead(gate_position(word), low) < 0) low = gate_position(word);
    }
    return low;
  }

  const std::int64_t capacity_;
  const std::size_t size_;
  std::unique_ptr<Slot[]> slots_;
  std::array<Gate, max_gates> gates_{};
  alignas(64) Atomic<Word> claimed_{0};
  alignas(64) Atomic<Word> floor_{0};
  Atomic<Word> published_{0};
  Atomic<std::size_t> used_{0};
};

} // namespace embedcore::dualwrite
