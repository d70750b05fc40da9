// What is done with any bytes that may be a snapshot: by libFuzzer (tests/fuzz) and by a test with random
// changes.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hnsw/index.h"
#include "snapshot_seal.h"

namespace embedcore::test {

enum class Tried { refused, loaded, wrong };

// Loads the bytes, read and mapped. An index that comes of them must be sound by its own account, answer,
// take writes and be compacted. wrong: it is not sound, or damage was reported as something else.
inline Tried try_snapshot(const std::string& bytes) {
  const int file = ::memfd_create("snapshot", 0);
  if (file < 0 || ::write(file, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    return Tried::wrong;
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  Tried result = Tried::refused;
  for (const bool mapped : {false, true}) {
    auto loaded = hnsw::Index::load(path, mapped);
    if (!loaded.ok()) {
      const Code code = loaded.error().code;
      if (code != Code::data_loss && code != Code::failed_precondition)
        result = Tried::wrong; // another version
      continue;
    }
    hnsw::Index& index = *loaded.value();
    const std::size_t dim = index.config().dim;
    if (dim > 64 || index.size() > 10000) continue; // slow, and nothing new
    std::vector<float> query(dim, 0.5f);
    std::array<std::int64_t, 5> ids{};
    std::array<float, 5> distances{};
    index.search(query.data(), ids.size(), 20, nullptr, ids.data(), distances.data());
    if (!index.wait_verified().ok()) continue;
    result = result == Tried::wrong ? result : Tried::loaded;
    const std::int64_t id = 1234567;
    // Vectors may hold anything: whether norms fit is for check() to say, not for load.
    bool sound = true;
    for (const std::string& problem : index.check()) {
      sound = sound && (problem.starts_with("norm does not") || problem.starts_with("duplicate link"));
    }
    if (!sound || !index.add({&id, 1}, query.data(), 1).ok()) result = Tried::wrong;
    index.remove({&id, 1});
    index.compact();
  }
  ::close(file);
  return result;
}

} // namespace embedcore::test
