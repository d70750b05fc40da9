// Folders, files and indexes for the tests of snapshots.
#pragma once

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "hnsw/snapshot.h"
#include "world.h"

namespace embedcore::test {

// A folder of its own, removed at the end.
struct Folder {
  Folder() {
    static std::atomic<int> made{0};
    const std::string name = "embedcore-test-" + std::to_string(::getpid()) + "-" + std::to_string(made++);
    path = std::filesystem::temp_directory_path() / name;
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  [[nodiscard]] std::string file(const std::string& name) const { return (path / name).string(); }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path), {}));
  }
  std::filesystem::path path;
};

inline std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// At once, or, when it is mapped, once all of it is verified.
inline bool refused_as_damaged(const std::string& path, bool mapped = false) {
  const auto loaded = Index::load(path, mapped);
  if (!loaded.ok()) return loaded.error().code == Code::data_loss;
  const Status verified = loaded.value()->wait_verified();
  return !verified.ok() && verified.error().code == Code::data_loss && !loaded.value()->verified() &&
         !loaded.value()->health().ok();
}

inline std::shared_ptr<Index> churned(std::size_t n, std::uint32_t dim, std::uint32_t m,
                                      Metric metric = Metric::l2, Kind kind = {}) {
  std::mt19937 random(41);
  const auto index = make_index(dim, metric, m, 0, kind);
  const auto rows = random_rows(random, n, dim);
  CHECK(index->add(numbered(0, n), rows.data(), 1).ok());
  CHECK(index->remove(numbered(0, n / 4)) == n / 4);
  index->compact();
  CHECK(index->add(numbered(static_cast<std::int64_t>(2 * n), n / 8), rows.data(), 1).ok());
  CHECK(index->remove(numbered(static_cast<std::int64_t>(n / 2), n / 8)) == n / 8);
  return index;
}

} // namespace embedcore::test
