// The free slots of an index, lowest first: a bitmap, taken from and given to by any number of threads at
// once.
//
//   words_   one bit a slot, set while it is free. give sets it (acq_rel), take clears it (compare-and-swap).
//   hint_    no slot below this word is free; the upper half counts gives, so that a taker which passed
//            over a word before a slot in it was given cannot raise the hint beyond it
//   top_     no slot from this word on was ever given
//   count_   at least as many as there are: raised before the bit is set, lowered after it is cleared
//
// Guarantees
//   * take, give and take_tail are lock-free: an exchange fails only when another thread's succeeded.
//   * a slot that was given before take began, and that nobody else takes, is found.
//   * what the giver did happens before what the taker does.
// The hint is trusted while fewer than 2^32 slots are given during one take.
//
// When not to use it: for a range so large and so seldom free that looking at a bit per slot costs too much.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "common/mutant.h"
#include "hnsw/link_list.h"

namespace embedcore::hnsw {

template <class Atomics>
class BasicFreeSlots {
 public:
  using Word = typename Atomics::template Atomic<std::uint64_t>;

  // words: zeroed, for as long as this lives, one bit for every slot that may be given.
  void use(Word* words) { words_ = words; }

  // The lowest one, or no_slot.
  [[nodiscard]] Slot take() {
    if (count_.load(std::memory_order_acquire) == 0) return no_slot;
    std::uint64_t seen = hint_.load(std::memory_order_acquire);
    const std::uint32_t first = low(seen);
    const std::uint32_t top = top_.load(std::memory_order_acquire);
    for (std::uint32_t w = first; w < top; ++w) {
      for (std::uint64_t bits = words_[w].load(std::memory_order_acquire); bits != 0;) {
        const std::uint64_t lowest = bits & (~bits + 1);
        if (!exchange(words_[w], bits, bits & ~lowest)) continue;
        if (w != first) exchange(hint_, seen, pack(high(seen), w));
        count_.fetch_add(static_cast<std::uint32_t>(-1), std::memory_order_relaxed);
        return w * 64 + static_cast<Slot>(std::countr_zero(lowest));
      }
    }
    if (first < top) exchange(hint_, seen, pack(high(seen), top));
    return no_slot;
  }

  // Pre-condition: the slot is not free, and the caller's.
  void give(Slot slot) {
    const std::uint32_t w = slot / 64;
    count_.fetch_add(1, std::memory_order_relaxed);
    words_[w].fetch_or(std::uint64_t{1} << slot % 64, std::memory_order_acq_rel);
    std::uint32_t top = top_.load(std::memory_order_acquire);
    while (top <= w && !exchange(top_, top, w + 1)) {
    }
    if (mutant("blind_hint")) return;
    std::uint64_t seen = hint_.load(std::memory_order_acquire);
    while (!exchange(hint_, seen, pack(high(seen) + 1, low(seen) < w ? low(seen) : w))) {
    }
  }

  // Takes all free slots just below end; returns where they begin.
  [[nodiscard]] Slot take_tail(Slot end) {
    while (end != 0) {
      const std::uint32_t w = (end - 1) / 64;
      const unsigned above = 63 - (end - 1) % 64; // bits of the word beyond the end
      std::uint64_t bits = words_[w].load(std::memory_order_acquire);
      const auto run = static_cast<unsigned>(std::countl_one(bits << above));
      if (run == 0) return end;
      const std::uint64_t taken = (~std::uint64_t{0} << (64 - run)) >> above;
      if (!exchange(words_[w], bits, bits & ~taken)) continue;
      count_.fetch_add(0u - run, std::memory_order_relaxed);
      end -= run;
    }
    return end;
  }

  // What take would return if nobody else took or gave.
  [[nodiscard]] Slot lowest() const {
    const std::uint32_t top = top_.load(std::memory_order_acquire);
    for (std::uint32_t w = low(hint_.load(std::memory_order_acquire)); w < top; ++w) {
      const std::uint64_t bits = words_[w].load(std::memory_order_acquire);
      if (bits != 0) return w * 64 + static_cast<Slot>(std::countr_zero(bits));
    }
    return no_slot;
  }

  [[nodiscard]] std::size_t count() const { return count_.load(std::memory_order_acquire); }

 private:
  static constexpr std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
  static constexpr std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }
  static constexpr std::uint64_t pack(std::uint32_t upper, std::uint32_t lower) {
    return std::uint64_t{upper} << 32 | lower;
  }
  template <class T>
  static bool exchange(typename Atomics::template Atomic<T>& word, T& seen, T wanted) {
    return word.compare_exchange_strong(seen, wanted, std::memory_order_acq_rel, std::memory_order_acquire);
  }

  Word* words_ = nullptr;
  typename Atomics::template Atomic<std::uint64_t> hint_{0};
  typename Atomics::template Atomic<std::uint32_t> top_{0};
  typename Atomics::template Atomic<std::uint32_t> count_{0};
};

} // namespace embedcore::hnsw
