// Counting the passes of the one armed fail point.
#include "common/failpoint.h"

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string>

namespace embedcore::failpoints {

namespace {

struct Armed {
  std::string name;
  std::atomic<long> left{0};

  Armed() {
    const char* given = std::getenv("EMBEDCORE_FAILPOINT");
    if (given == nullptr) return;
    name = given;
    left.store(1);
    if (const std::size_t colon = name.rfind(':'); colon != std::string::npos) {
      left.store(std::strtol(name.c_str() + colon + 1, nullptr, 10));
      name.resize(colon);
    }
  }
};

} // namespace

const bool armed = std::getenv("EMBEDCORE_FAILPOINT") != nullptr;

void passed(const char* name) {
  static Armed point;
  if (point.name == name && point.left.fetch_sub(1) == 1) std::raise(SIGKILL);
}

} // namespace embedcore::failpoints
