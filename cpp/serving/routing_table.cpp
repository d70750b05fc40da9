// The rules a table must keep before it may be served.
#include "serving/routing_table.h"

#include <bit>
#include <string>

namespace embedcore::serving {

namespace {

Status refuse(std::string message) { return {Code::invalid_argument, std::move(message)}; }

Status validate(const Generation& generation, const std::string& name) {
  if (generation.number < 1) return refuse(name + " must be numbered 1 or higher");
  if (!std::has_single_bit(generation.shards.size())) {
    return refuse(name + " has " + std::to_string(generation.shards.size()) +
                  " shards; the low bits of the item hash need a power of two");
  }
  for (const auto& shard : generation.shards) {
    if (shard == nullptr) return refuse(name + " has a shard without an index");
    const hnsw::Config& config = shard->config();
    const hnsw::Config& first = generation.shards.front()->config();
    if (config.dim != first.dim || config.metric != first.metric) {
      return refuse(name + " mixes shards of different dimension or metric: distances could not be merged");
    }
  }
  return {};
}

bool is_share(double value) { return value >= 0 && value <= 1; } // false for NaN

Status validate(const Consumer& consumer, const RoutingTable& table, const std::string& name) {
  const auto generations = static_cast<std::int32_t>(table.generations.size());
  if (consumer.source < 0 || consumer.source >= generations) {
    return refuse(name + " reads generation position " + std::to_string(consumer.source) + " of " +
                  std::to_string(generations));
  }
  if (consumer.target < -1 || consumer.target >= generations) {
    return refuse(name + " has target position " + std::to_string(consumer.target) + " of " +
                  std::to_string(generations));
  }
  if (consumer.target == consumer.source) return refuse(name + " has one generation as source and target");
  if (!is_share(consumer.weight)) {
    return refuse(name + " has weight " + std::to_string(consumer.weight) + "; it must be in [0, 1]");
  }
  if (!is_share(consumer.canary_share)) {
    return refuse(name + " has canary share " + std::to_string(consumer.canary_share) +
                  "; it must be in [0, 1]");
  }
  if (consumer.target < 0 && (consumer.weight > 0 || consumer.canary_share > 0)) {
    return refuse(name + " has a weight or a canary above 0 but no target to send it to");
  }
  if (consumer.ef_search.size() != table.generations.size()) {
    return refuse(name + " has " + std::to_string(consumer.ef_search.size()) + " ef_search values for " +
                  std::to_string(generations) + " generations");
  }
  for (const std::uint32_t ef : consumer.ef_search) {
    if (ef < 1) return refuse(name + " has ef_search 0; it must be at least 1");
  }
  return {};
}

} // namespace

Status validate(const RoutingTable& table) {
  if (table.version == 0) return refuse("a routing table's version must be 1 or higher");
  if (table.generations.empty()) return refuse("a routing table needs at least one generation");
  for (std::size_t i = 0; i < table.generations.size(); ++i) {
    const Generation& generation = table.generations[i];
    const std::string name = "generation " + std::to_string(generation.number);
    if (Status status = validate(generation, name); !status.ok()) return status;
    for (std::size_t j = 0; j < i; ++j) {
      if (table.generations[j].number == generation.number) return refuse(name + " is in the table twice");
    }
  }
  if (table.consumers.size() > max_consumers) {
    return refuse(std::to_string(table.consumers.size()) + " consumers; a router has " +
                  std::to_string(max_consumers) + " slots");
  }
  for (std::size_t slot = 0; slot < table.consumers.size(); ++slot) {
    if (table.consumers[slot].closed) continue;
    const std::string name = "consumer slot " + std::to_string(slot);
    if (Status status = validate(table.consumers[slot], table, name); !status.ok()) return status;
  }
  return {};
}

} // namespace embedcore::serving
