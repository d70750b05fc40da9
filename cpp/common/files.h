// Small files, whole: written so that a crash leaves the old file or the new one, never a mixture.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"

namespace embedcore {

// Writes path + ".tmp", syncs it, renames it over path, syncs the directory: after success the file is
// durable, after failure (resource_exhausted for a full disk, else unavailable) the old one is in place.
// Two writers of one path at once are the caller's mistake.
Status write_file(const std::string& path, std::span<const std::byte> bytes);

// The whole file. not_found where there is none; unavailable where it cannot be read;
// invalid_argument above max_bytes.
Result<std::vector<std::byte>> read_file(const std::string& path, std::size_t max_bytes);

} // namespace embedcore
