// Reading and writing of snapshots' files by POSIX calls.
#include "hnsw/snapshot_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "common/failpoint.h"
#include "common/mutant.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t buffer_bytes = std::size_t{1} << 20;

Error failure(const std::string& what, const std::string& path) {
  const int number = errno;
  const bool full = number == ENOSPC || number == EDQUOT || number == EFBIG;
  return {full ? Code::resource_exhausted : Code::failed_precondition,
          "cannot " + what + " " + path + ": " + std::strerror(number) +
              (full ? "; free disk space and save again" : "")};
}

} // namespace

SnapshotFile::SnapshotFile(const std::string& path) : handle_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}

SnapshotFile::~SnapshotFile() {
  if (handle_ >= 0) ::close(handle_);
}

std::optional<std::uint64_t> SnapshotFile::size() const {
  struct stat info{};
  if (::fstat(handle_, &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  return static_cast<std::uint64_t>(info.st_size);
}

bool SnapshotFile::read(std::uint64_t at, void* to, std::size_t n) const {
  auto* out = static_cast<std::byte*>(to);
  while (n != 0) {
    const ssize_t got = ::pread(handle_, out, n, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out += got;
    at += static_cast<std::uint64_t>(got);
    n -= static_cast<std::size_t>(got);
  }
  return true;
}

TemporaryFile::TemporaryFile(std::string path) : path_(std::move(path)) {
  static std::atomic<unsigned> counter{0};
  buffer_.reserve(buffer_bytes); // first: where memory runs out later, nobody closes the file
  temporary_ = path_ + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1));
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file_ < 0) status_ = failure("create", temporary_);
}

TemporaryFile::~TemporaryFile() {
  if (file_ < 0) return;
  ::close(file_);
  if (!finished_) ::unlink(temporary_.c_str());
}

void TemporaryFile::write(const void* data, std::size_t n) {
  const auto* bytes = static_cast<const std::byte*>(data);
  buffer_.insert(buffer_.end(), bytes, bytes + n);
  if (buffer_.size() >= buffer_bytes) flush();
}

void TemporaryFile::write_at_start(const void* data, std::size_t n) {
  flush();
  if (status_.ok() && ::pwrite(file_, data, n, 0) != static_cast<ssize_t>(n)) {
    status_ = failure("write", temporary_);
  }
}

void TemporaryFile::flush() {
  failpoint("snapshot-mid-write");
  std::size_t done = 0;
  while (status_.ok() && done < buffer_.size()) {
    const ssize_t n = ::write(file_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) status_ = failure("write", temporary_);
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  buffer_.clear();
}

Status TemporaryFile::finish() {
  flush();
  failpoint("snapshot-before-sync");
  if (status_.ok() && !mutant("no_sync") && ::fsync(file_) != 0) status_ = failure("sync", temporary_);
  if (!status_.ok()) return status_;
  const std::filesystem::path parent = std::filesystem::path(path_).parent_path();
  const std::string directory = parent.empty() ? "." : parent.string();
  failpoint("snapshot-before-rename");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) return failure("rename " + temporary_ + " to", path_);
  finished_ = true;
  failpoint("snapshot-after-rename");
  const int handle = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (handle < 0) return failure("open", directory);
  const bool synced = mutant("no_directory_sync") || ::fsync(handle) == 0;
  Status status = synced ? Status{} : Status(failure("sync", directory));
  ::close(handle);
  return status;
}

} // namespace embedcore::hnsw
