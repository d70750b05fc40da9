// How long stress tests go on: a second or so each in `make test`, hours in `make torture`, which sets
// EMBEDCORE_STRESS to how many times as long and EMBEDCORE_SEED to other random numbers.
#pragma once

#include <chrono>
#include <cstdlib>

namespace embedcore::test {

inline long from_environment(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == 0 ? otherwise : std::strtol(text, nullptr, 10);
}

inline std::chrono::milliseconds stress_time(std::chrono::milliseconds usual) {
  return usual * from_environment("EMBEDCORE_STRESS", 1);
}
inline unsigned stress_seed(unsigned usual) {
  return usual + 1000u * static_cast<unsigned>(from_environment("EMBEDCORE_SEED", 0));
}

} // namespace embedcore::test
