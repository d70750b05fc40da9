// What goes into the query path and what comes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

namespace embedcore::serving {

inline constexpr std::int64_t max_k = 1'000'000;
inline constexpr double no_override = -1;

// The query as one generation's model encoded it. Named by the generation's number and not by its
// position, since the table may be replaced between the encoding and the search.
struct QueryVector {
  std::int64_t generation = 0;
  std::span<const float> values;
};

struct Request {
  std::size_t slot = 0;
  std::span<const QueryVector> vectors; // of generations the table does not ask for: ignored
  std::int64_t k = 0;
  std::uint64_t deadline_ns = 0; // of the router's clock (steady); 0: none
  std::uint64_t user_hash = 0;   // item_hash of the user key; 0: no key, always control
  std::optional<std::span<const std::int64_t>> filter = {}; // allowed ids, strictly ascending
  double weight = no_override; // in place of the consumer's, without canary, and not counted
};

enum class Arm : std::uint8_t { control = 0, canary = 1 };

struct Plan {
  std::vector<std::int64_t> generations; // whose vectors are needed, source first
  double weight = 0;
  Arm arm = Arm::control;
  std::uint64_t table_version = 0;
};

struct Answer {
  std::vector<std::int64_t> ids; // nearest first, ties by id; fewer than k where fewer exist
  std::vector<float> distances;  // at weight 0 the source's own; else on the target's scale
  double weight = 0;             // the weight that was applied
  Arm arm = Arm::control;
  std::vector<std::int64_t> generations; // searched, source first
  std::uint64_t table_version = 0;
  std::uint32_t shards_asked = 0;
  std::uint32_t shards_answered = 0;
  // The deadline passed first, or a shard is out of service: it, or the scoring by id, is missing.
  bool partial = false;
  // -1, or the generation whose vector the current table needs and the caller did not give (the table was
  // replaced since the plan). Nothing was searched or counted: encode for it and call again.
  std::int64_t missing_generation = -1;
};

// Query vectors of one generation, row-major (rows, dim).
struct QueryMatrix {
  std::int64_t generation = 0;
  const float* values = nullptr;
  std::size_t rows = 0;
  std::size_t dim = 0;
};

struct BatchRequest {
  std::size_t slot = 0;
  std::span<const QueryMatrix> vectors;
  std::int64_t k = 0;
  double weight = no_override;
  unsigned threads = 0; // 0: all cores
  // Polled by the calling thread before each of its queries, with the number begun; false cancels.
  std::function<bool(std::size_t)> keep_going = {};
};

struct BatchAnswer {
  std::vector<std::int64_t> ids; // row-major (rows, k), -1 where fewer than k exist
  std::vector<float> distances;  // (rows, k), inf where id is -1
  double weight = 0;
  std::uint64_t table_version = 0;
};

} // namespace embedcore::serving
