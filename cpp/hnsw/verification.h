// The background check of a mapped snapshot: its vectors and codes, chunk by chunk, against their checksums.
//
// Guarantee: once verified() is true every byte that was mapped was as written. When damage is found,
// health() fails from then on, for good.
//
//   state_   running -> sound | damaged | stopped. The thread stores it (release) after message_;
//            readers load it (acquire) before they look at that.
//
// Reads the file, not the mapping: writers may have changed pages of their own there meanwhile. What the
// system cannot read while a search stands on that page is no checksum error but SIGBUS: a failing disk ends
// the process, and the next start finds the damage.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "common/status.h"
#include "hnsw/snapshot.h"
#include "hnsw/snapshot_file.h"

namespace embedcore::hnsw {

class Verification {
 public:
  struct Work {
    const char* what;
    snapshot::Section section;
    std::vector<std::uint32_t> checksums; // one per chunk
  };

  // Starts at once, on a thread of its own; where the system gives none, it is done when this returns.
  Verification(std::string path, SnapshotFile file, std::vector<Work> work);
  // Stops where it is.
  ~Verification();
  Verification(const Verification&) = delete;
  Verification& operator=(const Verification&) = delete;

  [[nodiscard]] bool verified() const { return state_.load(std::memory_order_acquire) == State::sound; }
  // data_loss, with the file and the chunk, once damage is found.
  [[nodiscard]] Status health() const {
    if (state_.load(std::memory_order_acquire) != State::damaged) [[likely]]
      return {};
    return damage();
  }
  [[nodiscard]] Status damage() const;
  // Until it is known.
  [[nodiscard]] Status wait() const;

 private:
  enum class State : std::uint32_t { running, sound, damaged, stopped };

  void run();
  State look();
  void end(State state);

  const std::string path_;
  const SnapshotFile file_;
  const std::vector<Work> work_;
  std::vector<std::byte> buffer_; // a chunk
  std::string message_;           // of damage; empty where there was no memory for one
  std::atomic<State> state_{State::running};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// What a chunk has against it: nothing (empty), or one clause.
[[nodiscard]] std::string chunk_damage(const snapshot::Section& section, std::uint64_t number,
                                       const std::byte* bytes, std::uint32_t checksum);
[[nodiscard]] std::size_t chunk_bytes(const snapshot::Section& section, std::uint64_t number);

inline constexpr const char* snapshot_remedy = "; restore the file from a backup or rebuild the index";

} // namespace embedcore::hnsw
