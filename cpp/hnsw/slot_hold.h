// Keeps slots that come free from being used again for as long as somebody reads what was in them outside of
// an epoch: a snapshot, which takes seconds, while an epoch is for the length of a search.
//
// Thread safety: all members from any thread; a mutex, held for as long as it takes to hand the slots on.
// Slots come in batches, from upkeep alone. Nothing throws: what is kept back is a chain through the parents
// of the slots' nodes, which nobody looks at.
#pragma once

#include <cstddef>
#include <mutex>
#include <span>
#include <utility>

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
    ~Guard() { hold_.leave(); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    SlotHold& hold_;
  };

  // Frees the slots, now or when the last guard goes. Pre-condition: that of Storage::free.
  void free(std::span<const Slot> slots) {
    const std::lock_guard lock(mutex_);
    if (guards_ == 0 || mutant("reuse_in_save")) return storage_.free(slots);
    for (const Slot slot : slots) storage_.set_parent(slot, std::exchange(last_, slot));
    kept_ += slots.size();
  }
  [[nodiscard]] std::size_t kept() const { // slots
    const std::lock_guard lock(mutex_);
    return kept_;
  }

 private:
  void leave() {
    Slot slot = no_slot;
    {
      const std::lock_guard lock(mutex_);
      if (--guards_ != 0) return;
      slot = std::exchange(last_, no_slot);
      kept_ = 0;
    }
    while (slot != no_slot) { // outside: there may be millions
      const Slot before = storage_.parent(slot);
      storage_.free({&slot, 1});
      slot = before;
    }
  }

  Storage& storage_;
  mutable std::mutex mutex_; // guards what follows
  unsigned guards_ = 0;
  Slot last_ = no_slot; // that is kept
  std::size_t kept_ = 0;
};

} // namespace embedcore::hnsw
