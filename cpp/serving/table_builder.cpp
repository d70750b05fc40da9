// From generation numbers to positions.
#include "serving/table_builder.h"

#include <algorithm>
#include <string>
#include <utility>

namespace embedcore::serving {

void TableBuilder::add_generation(std::int64_t number, std::vector<std::shared_ptr<hnsw::Index>> shards) {
  generations_.push_back({number, std::move(shards)});
}

std::size_t TableBuilder::add_consumer(ConsumerSpec consumer) {
  consumers_.push_back(std::move(consumer));
  return consumers_.size() - 1;
}

std::size_t TableBuilder::add_closed_slot() {
  consumers_.emplace_back(std::nullopt);
  return consumers_.size() - 1;
}

Result<RoutingTable> TableBuilder::build() const {
  RoutingTable table{version_, generations_, {}};
  const auto position_of = [&](std::int64_t number) {
    const auto at = std::find_if(generations_.begin(), generations_.end(),
                                 [number](const Generation& g) { return g.number == number; });
    return at == generations_.end() ? -1 : static_cast<std::int32_t>(at - generations_.begin());
  };
  for (std::size_t slot = 0; slot < consumers_.size(); ++slot) {
    Consumer consumer;
    if (!consumers_[slot].has_value()) {
      consumer.closed = true;
      table.consumers.push_back(std::move(consumer));
      continue;
    }
    const ConsumerSpec& spec = *consumers_[slot];
    const std::string name = "consumer slot " + std::to_string(slot);
    consumer.weight = spec.weight;
    consumer.calibration = spec.calibration;
    consumer.canary_share = spec.canary_share;
    consumer.canary_salt = spec.canary_salt;
    // A generation that this consumer does not read needs no breadth of its own.
    consumer.ef_search.assign(generations_.size(), 1);
    for (const bool target : {false, true}) {
      if (target && !spec.target.has_value()) continue;
      const std::int64_t number = target ? *spec.target : spec.source;
      const std::int32_t position = position_of(number);
      if (position < 0) {
        return Error{Code::invalid_argument, name + " reads generation " + std::to_string(number) +
                                                 ", which was not added to the table"};
      }
      const auto ef = spec.ef_search.find(number);
      if (ef == spec.ef_search.end()) {
        return Error{Code::invalid_argument,
                     name + " has no ef_search for generation " + std::to_string(number)};
      }
      consumer.ef_search[static_cast<std::size_t>(position)] = ef->second;
      (target ? consumer.target : consumer.source) = position;
    }
    table.consumers.push_back(std::move(consumer));
  }
  if (Status status = validate(table); !status.ok()) return status.error();
  return table;
}

} // namespace embedcore::serving
