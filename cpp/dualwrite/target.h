// Where a lane's writes go, and where a lane that fell behind gets them from.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "common/status.h"
#include "dualwrite/entry.h"
#include "hnsw/index.h"

namespace embedcore::dualwrite {

// An index, as a lane uses it. Called by one thread at a time per lane. ids are not negative, none twice;
// rows: row-major (ids.size(), dim), checked by the column's rules. A refusal may have applied some: the
// lane then goes through the items one by one.
class Target {
 public:
  virtual ~Target() = default;
  virtual Status add(std::span<const std::int64_t> ids, const float* rows, unsigned threads) = 0;
  virtual Status remove(std::span<const std::int64_t> ids) = 0; // unknown ids are ignored
  [[nodiscard]] virtual const void* index() const = 0;          // which index it is
};

class IndexTarget final : public Target {
 public:
  explicit IndexTarget(std::shared_ptr<hnsw::Index> index) : index_(std::move(index)) {}
  Status add(std::span<const std::int64_t> ids, const float* rows, unsigned threads) override {
    return index_->add(ids, rows, threads);
  }
  Status remove(std::span<const std::int64_t> ids) override {
    index_->remove(ids);
    return {};
  }
  [[nodiscard]] const void* index() const override { return index_.get(); }

 private:
  std::shared_ptr<hnsw::Index> index_;
};

// Writes of the log, in order. missing: an upsert whose vector this lane's model has not made yet.
struct SourceWrites {
  enum class Kind : std::uint8_t { upsert, missing, remove };
  std::vector<std::uint64_t> sequences; // ascending
  std::vector<std::int64_t> ids;
  std::vector<Kind> kinds;
  std::vector<float> rows; // (upserts, dim), in order

  void clear() {
    sequences.clear();
    ids.clear();
    kinds.clear();
    rows.clear();
  }
};

// The source of record: up to `limit` writes with sequence numbers of at least `from`, oldest first; writes
// that a later one made void may be left out. Empty: there is none yet. Called by the lane's thread, or by
// that of step(). Must hold a write before the writer is given it; where the writer numbers, so that a number
// is known only after, it must never show a write while a lower one is still to come.
using Source = std::function<Status(std::uint64_t from, std::size_t limit, SourceWrites& out)>;

} // namespace embedcore::dualwrite
