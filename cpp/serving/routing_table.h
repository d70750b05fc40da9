// RoutingTable: everything the query path has to know to answer, as one immutable value. A change of
// weight, a revert, a cutover is a new table; there is no other way to change what is served.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/status.h"
#include "dualwrite/calibration.h"
#include "hnsw/index.h"

namespace embedcore::serving {

// One generation's shards. All have one dimension and metric; together they hold each item once.
struct Generation {
  std::int64_t number = 0; // 1 and up; what callers name it by, stable across tables
  std::vector<std::shared_ptr<hnsw::Index>> shards;
};

// How one consumer slot is served. source and target are positions in RoutingTable::generations.
struct Consumer {
  bool closed = false; // nobody is served here (the slot's consumer is gone); the rest is ignored
  std::int32_t source = -1;
  std::int32_t target = -1;                                            // -1: no migration
  double weight = 0;                                                   // of the target, 0 to 1
  std::vector<std::uint32_t> ef_search;                                // one per generation
  std::shared_ptr<const dualwrite::ScoreCalibration> calibration = {}; // null: identity
  double canary_share = 0;                                             // of users, wholly on the target
  std::uint64_t canary_salt = 0;                                       // another salt, other users
};

struct RoutingTable {
  std::uint64_t version = 0; // grows with every table
  std::vector<Generation> generations;
  std::vector<Consumer> consumers; // the position is the slot
};

inline constexpr std::size_t max_consumers = 1024;

// invalid_argument with the first broken rule: version 0; no generation, a number below 1 or twice, no
// shard, a null shard, a shard count that is no power of two, shards of different dimension or metric;
// more than 1,024 consumers; source or target out of range or equal; a weight or canary share outside
// [0, 1], or above 0 without a target; ef_search not one positive number per generation.
[[nodiscard]] Status validate(const RoutingTable& table);

} // namespace embedcore::serving
