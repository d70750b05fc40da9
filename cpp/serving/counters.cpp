// Recording and reading a slot's counters.
#include "serving/counters.h"

namespace embedcore::serving {

void SlotCounters::record(Outcome outcome, std::uint64_t ns) {
  constexpr auto relaxed = std::memory_order_relaxed;
  if (outcome == Outcome::empty) empty_.fetch_add(1, relaxed);
  if (outcome == Outcome::partial) partial_.fetch_add(1, relaxed);
  if (outcome == Outcome::error) errors_.fetch_add(1, relaxed);
  latency_sum_ns_.fetch_add(ns, relaxed);
  latency_counts_[latency::bucket_of(ns)].fetch_add(1, relaxed);
}

CounterSnapshot SlotCounters::snapshot() const {
  constexpr auto relaxed = std::memory_order_relaxed;
  CounterSnapshot out;
  out.empty = empty_.load(relaxed);
  out.partial = partial_.load(relaxed);
  out.errors = errors_.load(relaxed);
  out.latency_sum_ns = latency_sum_ns_.load(relaxed);
  // The sum of the histogram is the number of queries, so one increment less per query.
  for (std::size_t i = 0; i < latency::buckets; ++i) {
    out.latency_counts[i] = latency_counts_[i].load(relaxed);
    out.queries += out.latency_counts[i];
  }
  return out;
}

} // namespace embedcore::serving
