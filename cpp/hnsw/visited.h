// The nodes that a walk has met: one bit per slot, cleared by undoing what was set, so that a walk costs what
// it visits. A walk in the kernels (Walk in kernel_set.h) works on the same bits and log.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "hnsw/kernel_set.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

class Visited {
 public:
  // Slots from limit on are passed over: they came after the walk began. room: nodes met in one step.
  // Pre-condition: empty.
  void begin(Slot limit, std::size_t room) {
    limit_ = limit;
    if (words_.size() < limit / 32 + 1) words_.resize(limit / 32 + 1 + limit / 256);
    words_[limit >> 5] |= bit(limit);
    // More is a matter of clearing all bits at the end instead of those that were set.
    if (log_.size() < std::max(usual, 2 * room)) log_.resize(std::max(usual, 2 * room));
  }
  // Whether slot was not yet in the set.
  bool insert(Slot slot) {
    if (slot >= limit_ || (words_[slot >> 5] & bit(slot)) != 0) return false;
    words_[slot >> 5] |= bit(slot);
    if (size_ == log_.size()) {
      overflowed_ = true;
      size_ = 0;
    }
    log_[size_++] = slot;
    return true;
  }
  void lend(Walk& walk) {
    walk.seen = words_.data();
    walk.limit = limit_;
    walk.log = log_.data();
    walk.log_size = size_;
    walk.log_capacity = log_.size();
    walk.overflowed = overflowed_;
    walk.fresh = size_;
  }
  void take_back(const Walk& walk) {
    size_ = walk.log_size;
    overflowed_ = walk.overflowed;
  }
  void clear() {
    const std::size_t used = limit_ / 32 + 1;
    if (overflowed_ || size_ > used / 16) { // a store clears sixteen words, but not those of scattered nodes
      std::fill_n(words_.begin(), std::min(used, words_.size()), 0u);
    } else {
      for (std::size_t i = 0; i < size_; ++i) words_[log_[i] >> 5] = 0;
      if (limit_ / 32 < words_.size()) words_[limit_ >> 5] = 0;
    }
    size_ = 0;
    overflowed_ = false;
  }
  [[nodiscard]] std::size_t bytes() const {
    return (words_.capacity() + log_.capacity()) * sizeof(std::uint32_t);
  }

 private:
  static constexpr std::size_t usual = 8192;
  static std::uint32_t bit(Slot slot) { return std::uint32_t{1} << (slot & 31); }

  Slot limit_ = 0;
  std::vector<std::uint32_t> words_;
  std::vector<std::uint32_t> log_;
  std::size_t size_ = 0;
  bool overflowed_ = false;
};

} // namespace embedcore::hnsw
