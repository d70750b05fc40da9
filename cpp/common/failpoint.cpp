// Counting the passes of the one armed fail point.
#include "common/failpoint.h"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string>

namespace embedcore {

namespace {

struct Armed {
  bool any = false;
  std::string name;
  std::atomic<long> left{1};

  Armed() {
    const char* given = std::getenv("EMBEDCORE_FAILPOINT");
    if (given == nullptr) return;
    any = true;
    name = given;
    if (const std::size_t colon = name.rfind(':'); colon != std::string::npos) {
      left.store(std::strtol(name.c_str() + colon + 1, nullptr, 10));
      name.resize(colon);
    }
  }
};

} // namespace

void failpoint(const char* name) {
  static Armed point;
  if (point.any && point.name == name && point.left.fetch_sub(1) == 1) std::raise(SIGKILL);
}

} // namespace embedcore
