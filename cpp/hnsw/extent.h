// How much of an arena is handed out, and how much of it has memory: two numbers in one word, so that nobody
// takes what is just being given back.
//
// Guarantees: take, cut and raise are lock-free. take never hands out what lies beyond ready.
// One word: [0, end) is handed out, [end, ready) may be. Exchanged with acq_rel, loaded with acquire.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

namespace embedcore::hnsw {

class Extent {
 public:
  [[nodiscard]] std::uint32_t end() const { return end_of(word_.load(std::memory_order_acquire)); }
  [[nodiscard]] std::uint32_t ready() const { return ready_of(word_.load(std::memory_order_acquire)); }

  // The first of n more, or nothing where they are not ready.
  [[nodiscard]] std::optional<std::uint32_t> take(std::uint32_t n) {
    std::uint64_t seen = word_.load(std::memory_order_acquire);
    while (ready_of(seen) - end_of(seen) >= n) {
      if (exchange(seen, end_of(seen) + n, ready_of(seen))) return end_of(seen);
    }
    return std::nullopt;
  }
  // Lowers both to `to`; false when the end is not `from` any more.
  [[nodiscard]] bool cut(std::uint32_t from, std::uint32_t to) {
    std::uint64_t seen = word_.load(std::memory_order_acquire);
    while (end_of(seen) == from) {
      if (exchange(seen, to, to)) return true;
    }
    return false;
  }
  // Everything below `to` has memory.
  void raise(std::uint32_t to) {
    std::uint64_t seen = word_.load(std::memory_order_acquire);
    while (ready_of(seen) < to && !exchange(seen, end_of(seen), to)) {
    }
  }
  // For a loader, alone: as if so many had been taken.
  void restore(std::uint32_t end) { word_.store(std::uint64_t{end} << 32 | end, std::memory_order_release); }

 private:
  static constexpr std::uint32_t end_of(std::uint64_t word) { return static_cast<std::uint32_t>(word); }
  static constexpr std::uint32_t ready_of(std::uint64_t word) {
    return static_cast<std::uint32_t>(word >> 32);
  }
  bool exchange(std::uint64_t& seen, std::uint32_t end, std::uint32_t ready) {
    return word_.compare_exchange_strong(seen, std::uint64_t{ready} << 32 | end, std::memory_order_acq_rel,
                                         std::memory_order_acquire);
  }

  std::atomic<std::uint64_t> word_{0};
};

} // namespace embedcore::hnsw
