// Loading, by format version. Nothing is believed before its checksum and its range were checked; fails with
// data_loss and makes no index when anything is wrong.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/status.h"
#include "hnsw/impl.h"
#include "hnsw/snapshot_file.h"

namespace embedcore::hnsw {

struct Snapshot {
  std::string path;
  SnapshotFile file;
  std::uint64_t size;
};

[[nodiscard]] inline Error damaged(const Snapshot& snapshot, const std::string& what) {
  return {Code::data_loss, snapshot.path + " " + what + snapshot_remedy};
}

// The snapshot has been found to begin like one of that version.
Result<std::unique_ptr<Index::Impl>> load_v2(const Snapshot& snapshot); // and version 1
Result<std::unique_ptr<Index::Impl>> load_v3(Snapshot snapshot, bool mapped);

} // namespace embedcore::hnsw
