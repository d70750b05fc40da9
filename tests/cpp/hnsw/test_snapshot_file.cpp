// In which order a snapshot reaches the disk, and what a failing disk leaves. The calls below are those of
// the program under test: what is linked in comes before the C library.
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "snapshot_world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

std::atomic<bool> watched{false};
std::atomic<long> writes_left{-1}; // of those that succeed; -1: all
std::vector<std::string>& calls() {
  static std::vector<std::string> made;
  return made;
}
void note(const std::string& call) {
  if (watched.load()) calls().push_back(call);
}
std::string target_of(int file) {
  char name[4096] = {};
  const ssize_t n = ::readlink(("/proc/self/fd/" + std::to_string(file)).c_str(), name, sizeof(name) - 1);
  return n > 0 ? std::string(name, static_cast<std::size_t>(n)) : "";
}
template <class Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

} // namespace

extern "C" {
int fsync(int file) {
  note("sync " + target_of(file));
  return real<int (*)(int)>("fsync")(file);
}
int rename(const char* from, const char* to) noexcept {
  note(std::string("rename ") + from);
  return real<int (*)(const char*, const char*)>("rename")(from, to);
}
ssize_t write(int file, const void* data, size_t n) {
  if (watched.load()) {
    note("write");
    if (writes_left.load() == 0) return errno = ENOSPC, -1;
    if (writes_left.load() > 0) writes_left.fetch_sub(1);
  }
  return real<ssize_t (*)(int, const void*, size_t)>("write")(file, data, n);
}
ssize_t pwrite(int file, const void* data, size_t n, off_t at) {
  note("write");
  if (watched.load() && writes_left.load() == 0) return errno = ENOSPC, -1;
  return real<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite")(file, data, n, at);
}
}

TEST(a_snapshot_is_synced_before_it_has_its_name_and_the_folder_after) {
  const Folder folder;
  const auto index = churned(24, 3, 2);
  calls().clear();
  watched.store(true);
  CHECK(index->save(folder.file("a")).ok());
  watched.store(false);
  const auto& made = calls();
  CHECK(made.size() >= 4);
  if (made.size() < 4) return;
  const std::size_t n = made.size();
  CHECK(made[n - 3].starts_with("sync ") && made[n - 3].find("a.tmp-") != std::string::npos);
  CHECK(made[n - 2].starts_with("rename ") && made[n - 2].find("a.tmp-") != std::string::npos);
  CHECK_EQ(made[n - 1], "sync " + std::filesystem::canonical(folder.path).string());
  CHECK_EQ(std::count(made.begin(), made.end() - 3, "write"), static_cast<std::ptrdiff_t>(n - 3));
}

SLOW_TEST(a_full_disk_leaves_the_old_snapshot_and_no_litter) {
  const Folder folder;
  const auto index = churned(24, 3, 2);
  CHECK(index->save(folder.file("a")).ok());
  const std::string old = bytes_of(folder.file("a"));
  const auto big = churned(20000, 32, 4); // several megabytes: several writes
  for (long allowed = 0;; ++allowed) {
    writes_left.store(allowed);
    watched.store(true);
    const Status status = big->save(folder.file("a"));
    watched.store(false);
    writes_left.store(-1);
    CHECK_EQ(folder.files(), std::size_t{1});
    if (status.ok()) {
      CHECK(allowed >= 3);
      break;
    }
    CHECK(status.error().code == Code::resource_exhausted);
    CHECK(status.error().message.find("free disk space") != std::string::npos);
    CHECK(bytes_of(folder.file("a")) == old);
  }
  CHECK(Index::load(folder.file("a")).value()->size() == big->size());
}
