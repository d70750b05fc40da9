// What the tests of a DualWriter share: an index that is a map and keeps a log, and a store to catch up from.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "dualwrite/dual_writer.h"

namespace embedcore::dualwrite {

struct DualWriterTestPeer {
  static void claim_and_die(DualWriter& writer) { CHECK(writer.stream_->ring.try_claim(1).has_value()); }
};

} // namespace embedcore::dualwrite

namespace embedcore::test {

using namespace embedcore::dualwrite; // NOLINT: for tests only
using Ids = std::vector<std::int64_t>;

inline constexpr std::uint32_t world_dim = 4;

inline hnsw::Config rules(std::uint32_t dim = world_dim) {
  hnsw::Config config;
  config.dim = dim;
  config.metric = hnsw::Metric::l2;
  return config;
}

// An item's vector holds its version in the first place.
class MapTarget final : public Target {
 public:
  Status add(std::span<const std::int64_t> ids, const float* rows, unsigned) override {
    wait_while_stuck();
    const std::lock_guard lock(mutex_);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (refused_id && *refused_id == ids[i]) return {Code::resource_exhausted, "no room for this one"};
    }
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const float version = rows[i * world_dim];
      items_[ids[i]] = version;
      log_.emplace_back(ids[i], version);
    }
    return {};
  }
  Status remove(std::span<const std::int64_t> ids) override {
    wait_while_stuck();
    const std::lock_guard lock(mutex_);
    for (const std::int64_t id : ids) {
      items_.erase(id);
      log_.emplace_back(id, -1.0f);
    }
    return {};
  }
  [[nodiscard]] const void* index() const override { return this; }

  [[nodiscard]] std::map<std::int64_t, float> items() const {
    const std::lock_guard lock(mutex_);
    return items_;
  }
  [[nodiscard]] std::vector<std::pair<std::int64_t, float>> log() const {
    const std::lock_guard lock(mutex_);
    return log_;
  }
  std::atomic<bool> stuck{false}; // as a dead index is: calls do not come back
  std::optional<std::int64_t> refused_id;
  std::chrono::microseconds pause{0}; // of each call
  std::atomic<int> calls{0};

 private:
  void wait_while_stuck() {
    ++calls;
    if (pause.count() != 0) std::this_thread::sleep_for(pause);
    while (stuck.load()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  mutable std::mutex mutex_;
  std::map<std::int64_t, float> items_;
  std::vector<std::pair<std::int64_t, float>> log_;
};

// The source of record: every write, by sequence number.
class MapStore {
 public:
  void put(std::uint64_t sequence, std::int64_t id, std::optional<float> version) {
    const std::lock_guard lock(mutex_);
    log_[sequence] = {id, version};
  }
  [[nodiscard]] Source source() {
    return [this](std::uint64_t from, std::size_t limit, SourceWrites& out) -> Status {
      const std::lock_guard lock(mutex_);
      ++calls;
      if (broken) return {Code::unavailable, "the store is away"};
      for (auto at = log_.lower_bound(from); at != log_.end() && out.ids.size() < limit; ++at) {
        out.sequences.push_back(at->first);
        out.ids.push_back(at->second.first);
        const auto& version = at->second.second;
        out.kinds.push_back(version ? SourceWrites::Kind::upsert : SourceWrites::Kind::remove);
        if (version) out.rows.insert(out.rows.end(), {*version, 1, 1, 1});
      }
      return {};
    };
  }
  std::atomic<bool> broken{false};
  std::atomic<int> calls{0};

 private:
  std::mutex mutex_;
  std::map<std::uint64_t, std::pair<std::int64_t, std::optional<float>>> log_;
};

inline LaneSpec lane_to(const std::shared_ptr<Target>& target, Source source = {}) {
  LaneSpec spec;
  spec.target = target;
  spec.rules = rules();
  spec.source = std::move(source);
  return spec;
}

inline Options options(std::size_t capacity, unsigned threads) {
  Options wanted;
  wanted.capacity = capacity;
  wanted.threads = threads;
  return wanted;
}

inline Patience at_once() {
  Patience patience;
  patience.timeout = std::chrono::nanoseconds(0);
  return patience;
}

inline std::unique_ptr<DualWriter> open(std::vector<LaneSpec> lanes, const Options& wanted) {
  auto made = DualWriter::create(std::move(lanes), wanted);
  CHECK(made.ok());
  return std::move(made.value());
}

// One version for all ids, to the first `lanes` lanes.
inline Result<std::uint64_t> upsert(DualWriter& writer, const Ids& ids, float version, std::size_t lanes,
                                    const Patience& patience = {},
                                    const std::vector<std::uint64_t>& sequences = {}) {
  std::vector<float> vectors;
  for (std::size_t i = 0; i < ids.size(); ++i) vectors.insert(vectors.end(), {version, 1, 1, 1});
  const std::vector<Writes::Rows> rows(lanes, Writes::Rows{vectors.data(), world_dim});
  Writes writes;
  writes.ids = ids;
  writes.rows = rows;
  writes.sequences = sequences;
  return writer.write(writes, patience);
}

inline Result<std::uint64_t> remove(DualWriter& writer, const Ids& ids, const Patience& patience = {},
                                    const std::vector<std::uint64_t>& sequences = {}) {
  Writes writes;
  writes.op = Op::remove;
  writes.ids = ids;
  writes.sequences = sequences;
  return writer.write(writes, patience);
}

} // namespace embedcore::test
