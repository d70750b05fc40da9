// Memory that runs out when a test wants it to. The whole program asks here (scarce.cpp).
#pragma once

#include <atomic>
#include <functional>
#include <thread>

namespace embedcore::test {

class Scarcity {
 public:
  enum class Kind { once, from_then_on };

  // Runs body on a thread of its own, whose buffers are all new, while the n-th request for memory of the
  // process fails, or that and all later ones. Whether there were so many requests.
  static bool during(long n, Kind kind, const std::function<void()>& body) {
    bool struck = false;
    std::thread([&] {
      forever().store(kind == Kind::from_then_on);
      left().store(n);
      body();
      forever().store(false);
      struck = left().exchange(0) == 0;
    }).join();
    return struck;
  }
  static bool strikes() {
    long seen = left().load();
    while (seen > 0 && !left().compare_exchange_weak(seen, seen - 1)) {
    }
    return seen == 1 || (seen == 0 && forever().load());
  }

 private:
  static std::atomic<long>& left() { // requests until one fails; 0: none will
    static std::atomic<long> count{0};
    return count;
  }
  static std::atomic<bool>& forever() {
    static std::atomic<bool> value{false};
    return value;
  }
};

} // namespace embedcore::test
