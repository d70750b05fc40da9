// What each consumer slot has answered: counts and a latency histogram, written by the query path and
// read by monitoring. Availability is stated per consumer, so nothing here is shared between slots.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace embedcore::serving {

// Latency buckets, four to an octave: bucket 0 is below 1,024 ns; then every power of two is cut into
// four equal parts, so that a bucket is at most 25% wide; the last is open, from 2^36 ns (69 s) on.
namespace latency {

inline constexpr std::size_t first_octave = 10;
inline constexpr std::size_t last_octave = 36;
inline constexpr std::size_t buckets = 1 + 4 * (last_octave - first_octave) + 1;

[[nodiscard]] constexpr std::size_t bucket_of(std::uint64_t ns) {
  const auto octave = static_cast<std::size_t>(std::bit_width(ns | 1)) - 1;
  if (octave < first_octave) return 0;
  if (octave >= last_octave) return buckets - 1;
  return 1 + 4 * (octave - first_octave) + ((ns >> (octave - 2)) & 3);
}

// The smallest latency in ns beyond the bucket; the last bucket has none and gives 2^64 - 1.
[[nodiscard]] constexpr std::uint64_t end_of(std::size_t bucket) {
  if (bucket + 1 >= buckets) return ~std::uint64_t{0};
  const std::size_t octave = first_octave + bucket / 4;
  return (4 + bucket % 4) << (octave - 2);
}

} // namespace latency

struct CounterSnapshot {
  std::uint64_t queries = 0; // answers and errors
  std::uint64_t empty = 0;   // answers without a single item
  std::uint64_t partial = 0; // answers that lack a shard or a score because the deadline passed
  std::uint64_t errors = 0;  // deadline passed with nothing found; a caller's bad input is not counted
  std::uint64_t latency_sum_ns = 0;
  std::array<std::uint64_t, latency::buckets> latency_counts{};
};

enum class Outcome : std::uint8_t { answer, empty, partial, error };

// Thread safety: record and snapshot from any threads at once. Counters only grow; a snapshot may be torn
// between counters by the queries that end while it is taken, never within one.
class alignas(64) SlotCounters { // slots on cache lines of their own: consumers do not slow one another
 public:
  void record(Outcome outcome, std::uint64_t ns);
  [[nodiscard]] CounterSnapshot snapshot() const;

 private:
  // Relaxed throughout: each is a sum of its own, and nothing is published through them.
  std::atomic<std::uint64_t> empty_{0};
  std::atomic<std::uint64_t> partial_{0};
  std::atomic<std::uint64_t> errors_{0};
  std::atomic<std::uint64_t> latency_sum_ns_{0};
  std::array<std::atomic<std::uint64_t>, latency::buckets> latency_counts_{};
};

} // namespace embedcore::serving
