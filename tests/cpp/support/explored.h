// The policy of atomics whose every operation is a scheduling point of explore.h.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "dualwrite/bell.h"
#include "support/explore.h"

namespace embedcore::test {

struct Explored {
  template <class T>
  class Atomic {
   public:
    Atomic() = default;
    Atomic(T value) : value_(value) {} // NOLINT: as std::atomic
    T load(std::memory_order = std::memory_order_seq_cst) const {
      point(false);
      return value_;
    }
    void store(T value, std::memory_order = std::memory_order_seq_cst) {
      point(true);
      value_ = value;
    }
    T fetch_add(T by, std::memory_order = std::memory_order_seq_cst) {
      point(true);
      return std::exchange(value_, static_cast<T>(value_ + by));
    }
    T fetch_or(T bits, std::memory_order = std::memory_order_seq_cst) {
      point(true);
      return std::exchange(value_, static_cast<T>(value_ | bits));
    }
    T fetch_and(T bits, std::memory_order = std::memory_order_seq_cst) {
      point(true);
      return std::exchange(value_, static_cast<T>(value_ & bits));
    }
    bool compare_exchange_strong(T& expected, T wanted, std::memory_order = std::memory_order_seq_cst,
                                 std::memory_order = std::memory_order_seq_cst) {
      point(true);
      if (value_ != expected) {
        expected = value_;
        return false;
      }
      value_ = wanted;
      return true;
    }
    bool compare_exchange_weak(T& expected, T wanted, std::memory_order a = std::memory_order_seq_cst,
                               std::memory_order b = std::memory_order_seq_cst) {
      return compare_exchange_strong(expected, wanted, a, b);
    }

   private:
    friend struct Explored;
    void point(bool writes) const {
      if (Explorer::current() != nullptr) Explorer::current()->point(this, writes);
    }
    T value_{};
  };

  static void yield() {
    if (Explorer::current() != nullptr) Explorer::current()->yield();
  }
  static void wait(Atomic<std::uint32_t>& word, std::uint32_t key, dualwrite::Deadline) {
    if (word.load() == key) Explorer::current()->sleep_at(&word);
  }
  static void wake_all(Atomic<std::uint32_t>& word) {
    word.fetch_add(0); // a step of its own, after the word was changed
    Explorer::current()->wake_all(&word);
  }
};

} // namespace embedcore::test
