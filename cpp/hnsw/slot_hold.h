// Keeps slots that come free from being used again for as long as somebody reads what was in them outside of
// an epoch: a snapshot, which takes seconds, while an epoch is for the length of a search.
//
// Thread safety: all members from any thread; a mutex, held for as long as it takes to hand the slots on.
// Slots come in batches, from upkeep alone. Memory: what is kept back, for as long as the longest hold.
#pragma once

#include <cstddef>
#include <mutex>
#include <span>
#include <vector>

#include "common/mutant.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

class SlotHold {
 public:
  explicit SlotHold(Storage& storage) : storage_(storage) {}

  // While one of these lives nothing is freed.
  class Guard {
   public:
    explicit Guard(SlotHold& hold) : hold_(hold) {
      const std::lock_guard lock(hold_.mutex_);
      ++hold_.guards_;
    }
    ~Guard() {
      std::vector<Slot> kept;
      {
        const std::lock_guard lock(hold_.mutex_);
        if (--hold_.guards_ == 0) kept.swap(hold_.kept_);
      }
      hold_.storage_.free(kept); // outside: there may be millions
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    SlotHold& hold_;
  };

  // Frees the slots, now or when the last guard goes. Pre-condition: that of Storage::free.
  void free(std::span<const Slot> slots) {
    const std::lock_guard lock(mutex_);
    if (guards_ == 0 || mutant("reuse_in_save")) return storage_.free(slots);
    kept_.insert(kept_.end(), slots.begin(), slots.end());
  }
  [[nodiscard]] std::size_t kept() const { // slots
    const std::lock_guard lock(mutex_);
    return kept_.size();
  }

 private:
  Storage& storage_;
  mutable std::mutex mutex_; // guards what follows
  unsigned guards_ = 0;
  std::vector<Slot> kept_;
};

} // namespace embedcore::hnsw
