// TableBuilder: a routing table put together by generation number, as the control plane thinks of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "common/status.h"
#include "serving/routing_table.h"

namespace embedcore::serving {

struct ConsumerSpec {
  std::int64_t source = 0;                 // generation numbers
  std::optional<std::int64_t> target = {}; // none: no migration
  double weight = 0;
  std::map<std::int64_t, std::uint32_t> ef_search; // by generation number: at least source and target
  std::shared_ptr<const dualwrite::ScoreCalibration> calibration = {};
  double canary_share = 0;
  std::uint64_t canary_salt = 0;
};

// Collects; build() checks. Not thread-safe.
class TableBuilder {
 public:
  explicit TableBuilder(std::uint64_t version) : version_(version) {}

  void add_generation(std::int64_t number, std::vector<std::shared_ptr<hnsw::Index>> shards);
  // Both return the slot: 0, 1, ... in order of the calls. A closed slot keeps the place, and so the
  // counters, of a consumer that is gone: a slot number is never given to another one.
  std::size_t add_consumer(ConsumerSpec consumer);
  std::size_t add_closed_slot();

  // The table, valid; may be called again after more was added. invalid_argument: a consumer names a
  // generation that was not added, or has no ef_search for one it reads; and all of validate's.
  [[nodiscard]] Result<RoutingTable> build() const;

  [[nodiscard]] std::uint64_t version() const { return version_; }
  [[nodiscard]] std::size_t slots() const { return consumers_.size(); }

 private:
  std::uint64_t version_;
  std::vector<Generation> generations_;
  std::vector<std::optional<ConsumerSpec>> consumers_; // null: closed
};

} // namespace embedcore::serving
