// libFuzzer on the loader: `make fuzz`. The first byte says whether checksums are made to hold, which lets
// changes through to what checks their meaning; the rest is the file.
#include <cstdlib>
#include <string>

#include "snapshot_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace embedcore::test;
  if (size == 0 || size > (1u << 20)) return -1;
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) seal(bytes);
  if (try_snapshot(bytes) == Tried::wrong) std::abort();
  return 0;
}
