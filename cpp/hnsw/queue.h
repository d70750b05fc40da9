// The candidate queue of a walk: one sorted array, distances and slots apart, so that finding the place of
// a new candidate touches distances only. Holds the nearest `capacity` seen; the top bit of a slot marks
// it as expanded.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

#include "hnsw/storage.h"

namespace embedcore::hnsw {

struct Candidate {
  float distance;
  Slot slot;
};

// Nearest first; equal distances by slot, so that results do not depend on the order of arrival.
// An object, not a function: sorting by a pointer to a function calls it for every comparison.
struct Nearer {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.distance < b.distance || (a.distance == b.distance && a.slot < b.slot);
  }
};
inline constexpr Nearer nearer{};

class SortedQueue {
 public:
  void reset(std::size_t capacity) {
    capacity_ = capacity;
    size_ = 0;
    next_ = 0;
    if (distances_.size() < capacity + 1) {
      slots_.resize(capacity + 1); // first, so that where memory runs out both are resized the next time
      distances_.resize(capacity + 1);
    }
  }

  // Distance that a new candidate must be below.
  [[nodiscard]] float bound() const {
    return size_ < capacity_ ? std::numeric_limits<float>::infinity() : distances_[size_ - 1];
  }

  void push(float distance, Slot slot) {
    if (size_ == capacity_ && !(distance < distances_[size_ - 1])) return;
    const auto begin = distances_.begin();
    const auto place = std::upper_bound(begin, begin + static_cast<std::ptrdiff_t>(size_), distance);
    const auto at = static_cast<std::size_t>(place - begin);
    const std::size_t tail = std::min(size_, capacity_ - 1) - at;
    std::memmove(&distances_[at + 1], &distances_[at], tail * sizeof(float));
    std::memmove(&slots_[at + 1], &slots_[at], tail * sizeof(Slot));
    distances_[at] = distance;
    slots_[at] = slot;
    size_ = std::min(size_ + 1, capacity_);
    next_ = std::min(next_, at);
  }

  // Marks the nearest candidate that is not yet expanded and returns its slot, or no_slot.
  [[nodiscard]] Slot expand() {
    while (next_ < size_ && (slots_[next_] & expanded) != 0) ++next_;
    if (next_ == size_) return no_slot;
    const Slot slot = slots_[next_];
    slots_[next_++] |= expanded;
    return slot;
  }

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] Candidate operator[](std::size_t i) const { return {distances_[i], slots_[i] & ~expanded}; }
  [[nodiscard]] std::size_t bytes() const { return distances_.capacity() * 2 * sizeof(float); }

 private:
  static constexpr Slot expanded = Slot{1} << 31;

  std::size_t capacity_ = 0;
  std::size_t size_ = 0;
  std::size_t next_ = 0; // every candidate before it is expanded
  std::vector<float> distances_;
  std::vector<Slot> slots_;
};

} // namespace embedcore::hnsw
