// Loading: which version a file has.
#include "hnsw/snapshot_load.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/crc32c.h"
#include "hnsw/snapshot.h"

namespace embedcore::hnsw {

namespace {

// The version, once the checksum of the header, which is in the same place in all of them, holds.
Result<std::uint32_t> version_of(const Snapshot& snapshot) {
  snapshot::Header start{};
  if (snapshot.size < snapshot::page ||
      !snapshot.file.read(0, &start, snapshot::header_fields(snapshot::version)))
    return damaged(snapshot, "is too short");
  if (start.magic != snapshot::magic) return damaged(snapshot, "is not a snapshot of an embedcore index");
  const std::size_t length = start.header_bytes;
  if (length % snapshot::page != 0 || length < snapshot::page || length > snapshot.size ||
      length > snapshot::header_bytes(snapshot::version, snapshot::most_fingerprint) + snapshot::page)
    return damaged(snapshot, "has a damaged header");
  std::vector<char> bytes(length);
  std::uint32_t crc = 0;
  if (!snapshot.file.read(0, bytes.data(), length)) return damaged(snapshot, "cannot be read");
  std::memcpy(&crc, bytes.data() + length - sizeof(crc), sizeof(crc));
  if (crc32c(bytes.data(), length - sizeof(crc)) != crc) return damaged(snapshot, "has a damaged header");
  return start.version;
}

} // namespace

Result<std::shared_ptr<Index>> Index::load(const std::string& path, bool mapped) {
  SnapshotFile file(path);
  if (!file.open()) {
    const int number = errno;
    const Code code = number == ENOENT ? Code::not_found : Code::failed_precondition;
    return Error{code, "cannot open snapshot " + path + ": " + std::strerror(number)};
  }
  const auto size = file.size();
  if (!size) return Error{Code::failed_precondition, path + " is not a regular file; name a snapshot"};
  Snapshot snapshot{path, std::move(file), *size};
  const auto version = version_of(snapshot);
  if (!version.ok()) return version.error();
  if (version.value() == 0 || version.value() > snapshot::version) {
    return Error{Code::failed_precondition, path + " has format version " + std::to_string(version.value()) +
                                                "; this build reads versions 1 to " +
                                                std::to_string(snapshot::version) +
                                                ": load it with a newer embedcore"};
  }
  auto loaded = version.value() < 3 ? load_v2(snapshot) : load_v3(std::move(snapshot), mapped);
  if (!loaded.ok()) return loaded.error();
  return std::shared_ptr<Index>(new Index(std::move(loaded.value())));
}

} // namespace embedcore::hnsw
