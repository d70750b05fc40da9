// Refusals that more than one file of the DualWriter gives.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "common/status.h"

namespace embedcore::dualwrite {

inline Error refuse(std::string message) { return {Code::invalid_argument, std::move(message)}; }

inline Error closed_error() { return {Code::unavailable, "the writer is closed; open a new one"}; }

inline Error no_lane(std::uint32_t lane) {
  return {Code::not_found,
          "there is no lane " + std::to_string(lane) + "; it was detached, or never attached"};
}

} // namespace embedcore::dualwrite
