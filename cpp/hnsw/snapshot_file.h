// Files of snapshots: one that is read, and one that is written under another name first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"

namespace embedcore::hnsw {

// Open for reading; any number of threads may read at once.
class SnapshotFile {
 public:
  explicit SnapshotFile(const std::string& path);
  ~SnapshotFile();
  SnapshotFile(SnapshotFile&& other) noexcept : handle_(other.handle_) { other.handle_ = -1; }
  SnapshotFile& operator=(SnapshotFile&&) = delete;
  SnapshotFile(const SnapshotFile&) = delete;
  SnapshotFile& operator=(const SnapshotFile&) = delete;

  [[nodiscard]] bool open() const { return handle_ >= 0; }
  [[nodiscard]] int handle() const { return handle_; }
  [[nodiscard]] std::optional<std::uint64_t> size() const; // of a regular file
  // n bytes from an offset. False: there are fewer, or they cannot be read.
  [[nodiscard]] bool read(std::uint64_t at, void* to, std::size_t n) const;

 private:
  int handle_;
};

// A file under a temporary name, which takes its real name only in finish(): a crash leaves the old file or
// the new one, never a mixture. Without finish() nothing is left. Not thread-safe.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string path);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  // The first failure of these is kept; after it they do nothing.
  void write(const void* data, std::size_t n);
  void write_at_start(const void* data, std::size_t n);
  [[nodiscard]] const Status& status() const { return status_; }
  // Syncs the file, renames it, syncs the directory, in this order: a name that survives a power cut leads to
  // bytes that do.
  Status finish();

 private:
  void flush();

  std::string path_;
  std::string temporary_;
  int file_ = -1;
  bool finished_ = false;
  Status status_;
  std::vector<std::byte> buffer_;
};

} // namespace embedcore::hnsw
