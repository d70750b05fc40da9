// CRC32C: eight bytes per step by tables, or by the SSE4.2 instruction where the processor has it.
#include "common/crc32c.h"

#include <array>
#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace embedcore {

namespace {

constexpr std::uint32_t polynomial = 0x82F63B78u;

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// tables[0] advances by one byte; tables[j] by that byte followed by j zero bytes ("slicing by 8").
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? polynomial : 0u);
    tables[0][byte] = crc;
  }
  for (std::size_t j = 1; j < 8; ++j) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t before = tables[j - 1][byte];
      tables[j][byte] = (before >> 8) ^ tables[0][before & 0xFFu];
    }
  }
  return tables;
}

constexpr Tables tables = make_tables();

} // namespace

std::uint32_t crc32c_scalar(const void* data, std::size_t n, std::uint32_t crc) {
  const auto* p = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (; n >= 8; n -= 8, p += 8) {
    const std::uint32_t low = crc ^ (std::uint32_t{p[0]} | std::uint32_t{p[1]} << 8 |
                                     std::uint32_t{p[2]} << 16 | std::uint32_t{p[3]} << 24);
    crc = tables[7][low & 0xFFu] ^ tables[6][(low >> 8) & 0xFFu] ^ tables[5][(low >> 16) & 0xFFu] ^
          tables[4][low >> 24] ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^ tables[0][p[7]];
  }
  for (; n > 0; --n, ++p) crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 0xFFu];
  return ~crc;
}

#if defined(__x86_64__)

bool crc32c_has_hardware() { return __builtin_cpu_supports("sse4.2") != 0; }

__attribute__((target("sse4.2"))) std::uint32_t crc32c_hardware(const void* data, std::size_t n,
                                                                std::uint32_t crc) {
  const auto* p = static_cast<const unsigned char*>(data);
  std::uint64_t wide = static_cast<std::uint32_t>(~crc);
  for (; n >= 8; n -= 8, p += 8) {
    std::uint64_t word;
    std::memcpy(&word, p, sizeof word);
    wide = _mm_crc32_u64(wide, word);
  }
  auto narrow = static_cast<std::uint32_t>(wide);
  for (; n > 0; --n, ++p) narrow = _mm_crc32_u8(narrow, *p);
  return ~narrow;
}

#else

bool crc32c_has_hardware() { return false; }

std::uint32_t crc32c_hardware(const void* data, std::size_t n, std::uint32_t crc) {
  return crc32c_scalar(data, n, crc);
}

#endif

std::uint32_t crc32c(const void* data, std::size_t n, std::uint32_t crc) {
  static const auto chosen = [] {
    const char* forced = std::getenv("EMBEDCORE_ISA");
    const bool scalar = forced != nullptr && std::strcmp(forced, "scalar") == 0;
    return crc32c_has_hardware() && !scalar ? &crc32c_hardware : &crc32c_scalar;
  }();
  return chosen(data, n, crc);
}

} // namespace embedcore
