// How much memory a processor keeps near.
#pragma once

#include <cstddef>

namespace embedcore {

// Bytes of the last-level cache, which other cores and other tenants may share; 0 where the system does not
// say. The same at every call; thread-safe.
std::size_t last_level_cache();

} // namespace embedcore
