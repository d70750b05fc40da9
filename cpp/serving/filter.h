// The filter of a request: an ascending list of allowed ids, kept by the caller.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>

#include "hnsw/index.h"

namespace embedcore::serving {

// Thread-safe. The ids must outlive it.
class SortedIds final : public hnsw::IdFilter {
 public:
  // Up to here an index may score the allowed ids one by one, which is exact; beyond it walks its graph.
  static constexpr std::size_t listed_at_most = 2048;

  explicit SortedIds(std::span<const std::int64_t> ids) : ids_(ids) {}

  // Whether ids ascend strictly, as the class needs them.
  [[nodiscard]] static bool valid(std::span<const std::int64_t> ids) {
    return std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>()) == ids.end();
  }

  [[nodiscard]] bool allows(std::int64_t id) const override {
    return std::binary_search(ids_.begin(), ids_.end(), id);
  }
  [[nodiscard]] std::span<const std::int64_t> listed() const override {
    return ids_.size() <= listed_at_most ? ids_ : std::span<const std::int64_t>{};
  }

 private:
  std::span<const std::int64_t> ids_;
};

} // namespace embedcore::serving
