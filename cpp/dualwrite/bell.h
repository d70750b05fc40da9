// How threads of the write stream sleep and wake: atomics as a policy, and a bell to wait at.
//
// StdAtomics is what the product runs on. Tests put in a policy whose every operation is a scheduling point
// and run all interleavings of small cases (tests/cpp/support/explore.h).
//
// Bell: a sleeper that finds its condition unmet goes to sleep only if nobody rang since it looked.
//   waiter:  key = bell.key();  if (condition) done;  bell.wait(key, deadline);  again
//   ringer:  make the condition true;  bell.ring();
//
// Guarantees
//   * No lost wake-up: a ring that follows the change of the condition ends, or forestalls, every wait whose
//     key was taken before it.
//   * ring() is one atomic addition while nobody sleeps, and never waits.
//   * wait() may return for no reason; callers look again.
//   * key() says that somebody may sleep, which makes the next ring dear: look once before taking a key.
//
// Atomics: one word. Bit 0 "somebody may sleep": waiters set it in key() (acq_rel), the ringer that saw it
// clears it before it wakes all (acq_rel). The rest counts rings: fetch_add in ring() (acq_rel). Both sides
// only read-modify-write, so they stand in one order: either the waiter's key() comes first, and the ringer
// sees its bit and wakes it, or the ring comes first, and key() acquires what was done before it.
//
// When not to use it: where a waiter must be woken alone (all wake), or for a mutex.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#endif

namespace embedcore::dualwrite {

using Deadline = std::chrono::steady_clock::time_point;

inline constexpr Deadline no_deadline = Deadline::max();

struct StdAtomics {
  template <class T>
  using Atomic = std::atomic<T>;

  static void yield() { std::this_thread::yield(); }

  // Returns when the word is not `key`, when woken, at the deadline, or for no reason. std::atomic::wait
  // knows no deadline, so on Linux the system call under it is made here.
  static void wait(std::atomic<std::uint32_t>& word, std::uint32_t key, Deadline deadline) {
#if defined(__linux__)
    static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t),
                  "the kernel looks at the word");
    timespec time{};
    if (deadline != no_deadline) {
      const auto left = deadline - std::chrono::steady_clock::now();
      const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
      if (nanoseconds <= 0) return;
      time.tv_sec = static_cast<time_t>(nanoseconds / 1'000'000'000);
      time.tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000);
    }
    syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT_PRIVATE, key,
            deadline == no_deadline ? nullptr : &time, nullptr, 0);
#else
    if (deadline == no_deadline) return word.wait(key, std::memory_order_acquire);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
#endif
  }

  static void wake_all(std::atomic<std::uint32_t>& word) {
#if defined(__linux__)
    syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr,
            nullptr, 0);
#else
    word.notify_all();
#endif
  }
};

template <class Policy = StdAtomics>
class Bell {
 public:
  void ring() {
    if ((word_.fetch_add(2, std::memory_order_acq_rel) & 1u) == 0) return;
    word_.fetch_and(~1u, std::memory_order_acq_rel);
    Policy::wake_all(word_);
  }

  [[nodiscard]] std::uint32_t key() { return word_.fetch_or(1u, std::memory_order_acq_rel) | 1u; }

  void wait(std::uint32_t key, Deadline deadline = no_deadline) { Policy::wait(word_, key, deadline); }

 private:
  alignas(64) typename Policy::template Atomic<std::uint32_t> word_{0};
};

} // namespace embedcore::dualwrite
