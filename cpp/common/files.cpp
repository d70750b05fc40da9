// Durable small files by POSIX calls: write aside, fsync, rename, fsync the directory.
#include "common/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace embedcore {

namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool open() const { return fd_ >= 0; }

 private:
  int fd_;
};

Error system_error(const char* doing, const std::string& path) {
  const int number = errno;
  const Code code = number == ENOENT                       ? Code::not_found
                    : number == ENOSPC || number == EDQUOT ? Code::resource_exhausted
                                                           : Code::unavailable;
  return {code, std::string("cannot ") + doing + " " + path + ": " + std::strerror(number)};
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status write_all(const std::string& path, std::span<const std::byte> bytes) {
  const Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.open()) return system_error("create", path);
  while (!bytes.empty()) {
    const ssize_t n = ::write(file.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("write", path);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  if (::fsync(file.get()) != 0) return system_error("sync", path);
  return {};
}

} // namespace

Status write_file(const std::string& path, std::span<const std::byte> bytes) {
  const std::string aside = path + ".tmp";
  Status written = write_all(aside, bytes);
  if (written.ok() && std::rename(aside.c_str(), path.c_str()) != 0) {
    written = system_error("rename a new file to", path);
  }
  if (!written.ok()) {
    ::unlink(aside.c_str());
    return written;
  }
  const Descriptor folder(::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.open() || ::fsync(folder.get()) != 0) return system_error("sync the folder of", path);
  return {};
}

Result<std::vector<std::byte>> read_file(const std::string& path, std::size_t max_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.open()) return system_error("open", path);
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return system_error("read", path);
  if (!S_ISREG(info.st_mode)) return Error{Code::invalid_argument, path + " is not a regular file"};
  if (static_cast<std::size_t>(info.st_size) > max_bytes) {
    return Error{Code::invalid_argument, path + " has " + std::to_string(info.st_size) + " bytes, at most " +
                                             std::to_string(max_bytes) +
                                             " were expected: is it the right file?"};
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(info.st_size));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("read", path);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  bytes.resize(done);
  return bytes;
}

} // namespace embedcore
