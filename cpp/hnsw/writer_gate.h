// Writers among themselves: add and remove share the gate, the verbs that rework the graph (repair,
// compact, relocate, save, check) hold it alone. Readers never touch it.
//
// A waiting exclusive holder goes before new shared ones, so that a stream of adds cannot starve it.
// Satisfies Lockable and SharedLockable in part: use std::shared_lock and std::unique_lock.
// When not to use it: on a read path.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace embedcore::hnsw {

class WriterGate {
 public:
  void lock_shared() {
    std::unique_lock lock(mutex_);
    shared_may_enter_.wait(lock, [this] { return !alone_ && waiting_ == 0; });
    ++sharing_;
  }
  void unlock_shared() {
    const std::lock_guard lock(mutex_);
    if (--sharing_ == 0) alone_may_enter_.notify_one();
  }
  void lock() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    alone_may_enter_.wait(lock, [this] { return !alone_ && sharing_ == 0; });
    --waiting_;
    alone_ = true;
  }
  void unlock() {
    const std::lock_guard lock(mutex_);
    alone_ = false;
    if (waiting_ != 0) {
      alone_may_enter_.notify_one();
    } else {
      shared_may_enter_.notify_all();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable shared_may_enter_;
  std::condition_variable alone_may_enter_;
  std::size_t sharing_ = 0;
  std::size_t waiting_ = 0;
  bool alone_ = false;
};

} // namespace embedcore::hnsw
