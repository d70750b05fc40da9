// A lane's failure record: the items that it does not hold as the stream has them, and why. One record per
// item, that of its latest write; a later write of the item that succeeds takes it off.
//
// Thread safety: all members from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace embedcore::dualwrite {

struct Failure {
  std::int64_t id = 0;
  std::uint64_t sequence = 0;
  std::string reason;
};

class FailureRecord {
 public:
  void put(std::int64_t id, std::uint64_t sequence, const std::string& reason) {
    const std::lock_guard lock(mutex_);
    failures_[id] = {id, sequence, reason};
    size_.store(failures_.size(), std::memory_order_relaxed);
  }

  // Called for every item that is applied, and nearly always there is no failure at all. One lane's calls of
  // put and take come from one thread, so the size it sees is its own.
  void take(std::int64_t id) {
    if (size_.load(std::memory_order_relaxed) == 0) return;
    const std::lock_guard lock(mutex_);
    failures_.erase(id);
    size_.store(failures_.size(), std::memory_order_relaxed);
  }

  void exchange(FailureRecord& other) {
    const std::scoped_lock lock(mutex_, other.mutex_);
    failures_.swap(other.failures_);
    size_.store(failures_.size(), std::memory_order_relaxed);
    other.size_.store(other.failures_.size(), std::memory_order_relaxed);
  }

  [[nodiscard]] std::size_t size() const { return size_.load(std::memory_order_relaxed); }

  // By sequence.
  [[nodiscard]] std::vector<Failure> list() const {
    std::vector<Failure> all;
    {
      const std::lock_guard lock(mutex_);
      all.reserve(failures_.size());
      for (const auto& [id, failure] : failures_) all.push_back(failure);
    }
    std::sort(all.begin(), all.end(), [](const Failure& a, const Failure& b) {
      return std::pair(a.sequence, a.id) < std::pair(b.sequence, b.id);
    });
    return all;
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::int64_t, Failure> failures_;
  std::atomic<std::size_t> size_{0};
};

} // namespace embedcore::dualwrite
