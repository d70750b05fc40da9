// One reserved address range that grows by committing pages at its end: what lies in it never moves, so
// lock-free readers never see a pointer change.
//
// Thread safety: data() may be read by any thread; reserve, commit and release need one writer at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/status.h"

namespace embedcore::hnsw {

class Arena {
 public:
  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Takes address space (no memory) for wanted bytes, or for less, down to minimum, where the system
  // refuses more. Pre-condition: not reserved yet.
  Status reserve(std::size_t wanted, std::size_t minimum);
  // Makes [0, bytes) usable; new pages read as zero. False when the range or the memory is exhausted.
  [[nodiscard]] bool commit(std::size_t bytes);
  // Makes [0, bytes) usable with the contents of a file from an offset on, both multiples of the page. Pages
  // are the file's until they are written, then copies; the file never changes. False where the system
  // refuses. Pre-condition: reserved, nothing committed.
  [[nodiscard]] bool map(int file, std::uint64_t offset, std::size_t bytes);
  // Gives the pages that lie wholly in [from, committed) back to the system; they read as zero again.
  void release(std::size_t from);

  [[nodiscard]] std::byte* data() const { return base_; }
  [[nodiscard]] std::size_t reserved() const { return reserved_; }
  // Bytes of physical memory behind the range now, by the system's own account.
  [[nodiscard]] std::size_t resident() const;

 private:
  std::byte* base_ = nullptr;
  std::size_t reserved_ = 0;
  std::size_t committed_ = 0;
  std::size_t mapped_ = 0; // of a file
};

// Physical memory of the machine in bytes.
[[nodiscard]] std::size_t physical_memory();

} // namespace embedcore::hnsw
