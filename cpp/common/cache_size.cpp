// Asked of the C library, which asks the processor.
#include "common/cache_size.h"

#include <unistd.h>

namespace embedcore {

std::size_t last_level_cache() {
  static const std::size_t bytes = [] {
#ifdef _SC_LEVEL3_CACHE_SIZE
    const long third = sysconf(_SC_LEVEL3_CACHE_SIZE);
    const long size = third > 0 ? third : sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
    const long size = 0;
#endif
    return size > 0 ? static_cast<std::size_t>(size) : std::size_t{0};
  }();
  return bytes;
}

} // namespace embedcore
