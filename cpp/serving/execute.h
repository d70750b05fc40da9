// One request against one table: route, search each shard, score what a list lacks, rank. Internal to
// this folder.
#pragma once

#include <cstdint>
#include <span>

#include "common/status.h"
#include "serving/request.h"
#include "serving/routing_table.h"

namespace embedcore::serving {

using Clock = std::uint64_t (*)(); // nanoseconds, never going back

// not_found for a slot that the table does not have, or has closed.
Result<const Consumer*> consumer_of(const RoutingTable& table, std::size_t slot);

struct Route {
  double weight = 0;
  Arm arm = Arm::control;

  [[nodiscard]] bool reads_source() const { return weight < 1; }
  [[nodiscard]] bool reads_target() const { return weight > 0; }
};

// Override first, then the canary, then the consumer's weight. invalid_argument: an override outside
// [0, 1]; failed_precondition: an override above 0 for a consumer without target.
Result<Route> route_of(const Consumer& consumer, std::uint64_t user_hash, double weight_override);

// invalid_argument: wrong dimension, a value that is not finite, the zero vector under cosine.
Status check_query(const Generation& generation, std::span<const float> query);

// Runs a routed request. Pre-conditions: the consumer is of this table, the vectors that the route reads
// were checked (the other may be null), 1 <= k <= max_k. Errors: deadline_exceeded where it passed with
// nothing found. Thread-safe.
struct Execution {
  const RoutingTable& table;
  const Consumer& consumer;
  Route route;
  const float* source;
  const float* target;
  std::size_t k;
  const hnsw::IdFilter* filter; // null: none
  std::size_t allowed;          // how many ids the filter allows; SIZE_MAX without one
  std::uint64_t deadline_ns;    // 0: none
  Clock clock;
};
Result<Answer> execute(const Execution& run);

} // namespace embedcore::serving
