// CRC32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4), the checksum of every
// file embedcore writes. Detects damage, not malice.
#pragma once

#include <cstddef>
#include <cstdint>

namespace embedcore {

// CRC32C of n bytes. Pass the result of the bytes before as crc to continue: crc32c(b, crc32c(a)) is the
// checksum of a then b. Uses the processor's CRC instructions where it has them (and EMBEDCORE_ISA is
// not "scalar"), chosen at the first call. Thread-safe.
[[nodiscard]] std::uint32_t crc32c(const void* data, std::size_t n, std::uint32_t crc = 0);

// The same by tables, on every machine; the twin that the hardware path is tested against.
[[nodiscard]] std::uint32_t crc32c_scalar(const void* data, std::size_t n, std::uint32_t crc = 0);

// Whether the processor has the instructions, whatever EMBEDCORE_ISA says.
[[nodiscard]] bool crc32c_has_hardware();

// Pre-condition: crc32c_has_hardware().
[[nodiscard]] std::uint32_t crc32c_hardware(const void* data, std::size_t n, std::uint32_t crc = 0);

} // namespace embedcore
