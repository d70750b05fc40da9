// Makes all checksums of a snapshot hold again, whatever was changed under them: so that what is planted is
// found by what it means and not by its checksum. Written from the table in snapshot.h, apart from the code
// under test.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "common/crc32c.h"
#include "hnsw/snapshot.h"

namespace embedcore::test {

inline hnsw::snapshot::Header header_of(const std::string& bytes) {
  hnsw::snapshot::Header header{};
  std::memcpy(&header, bytes.data(), std::min(bytes.size(), sizeof(header)));
  return header;
}

// False: the header describes no file of this size; nothing was changed then.
inline bool seal(std::string& bytes) {
  namespace snapshot = hnsw::snapshot;
  snapshot::Header header = header_of(bytes);
  constexpr std::uint64_t most = std::uint64_t{1} << 32; // so that nothing overflows
  if (header.slots > most || header.runs > most || header.m > 512 || header.block_bytes > (1u << 20) ||
      header.original_bytes > (1u << 20) || header.dim > 65535 || header.header_bytes > bytes.size() ||
      header.header_bytes < snapshot::page)
    return false;
  const snapshot::Layout layout(header);
  if (layout.file_bytes != bytes.size()) return false;
  const auto put = [&bytes](std::uint64_t at, std::uint32_t crc) {
    std::memcpy(&bytes[at], &crc, sizeof(crc));
  };
  const auto checksum = [&layout](std::uint64_t number) { return layout.checksums.at + 4 * number; };
  for (const snapshot::Section& section : layout.sections) {
    for (std::uint64_t i = 0; i < section.chunks(); ++i) {
      const std::uint64_t n = std::min<std::uint64_t>(snapshot::chunk, section.bytes - i * snapshot::chunk);
      put(checksum(section.first + i), crc32c(&bytes[section.at + i * snapshot::chunk], n));
    }
  }
  const std::size_t links = (2 * header.m * sizeof(hnsw::Slot) + 63) / 64 * 64;
  if (links > header.block_bytes) return false;
  for (std::uint64_t group = 0; group < layout.link_checksums; ++group) {
    const std::uint64_t end = std::min<std::uint64_t>(header.slots, (group + 1) * snapshot::link_group);
    std::uint32_t crc = 0;
    for (std::uint64_t slot = group * snapshot::link_group; slot < end; ++slot)
      crc = crc32c(&bytes[layout.sections[snapshot::blocks].at + slot * header.block_bytes], links, crc);
    put(checksum(layout.first_link_checksum + group), crc);
  }
  header.checksums_crc = crc32c(&bytes[layout.checksums.at], layout.checksums.bytes);
  std::memcpy(bytes.data(), &header, sizeof(header));
  put(header.header_bytes - 4, crc32c(bytes.data(), header.header_bytes - 4));
  return true;
}

} // namespace embedcore::test
