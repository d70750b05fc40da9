// Epoch-based reclamation: readers of a lock-free structure pin an epoch, writers hand over what they
// unlinked, and it is freed once no reader that could have seen it is left.
//
// Guarantees
//   * What was unlinked before retire() is freed only after every guard pinned before that retire()
//     has been released. A guard pinned later sees the unlink (by happens-before, not by luck), so it
//     cannot reach what is freed.
//   * pin() and ~Guard are lock-free and wait for nobody. pin() allocates once in the life of the
//     domain for each further 64 guards held at the same time.
//   * No bare fences, nothing sequentially consistent asked of the caller: the structure's own pointers
//     may be published with release and read with acquire.
//
// Atomics, and who writes each
//   epoch_        writers add 1 in retire() and synchronize() (acq_rel); readers load it (acquire).
//   Slot::epoch   0 = free, else the epoch of the guard that owns it. Readers CAS 0 -> e (acq_rel) to
//                 own it and store 0 (release) to leave; reclaiming threads read it by fetch_add(0)
//                 (acq_rel), which leaves the value as it is.
//   Block::next   null, then one block for ever. Readers CAS null -> block (acq_rel) and load (acquire);
//                 reclaiming threads read it by fetch_add(0) (acq_rel).
//
// Why it is right, by pairs
//   (1) retire's fetch_add on epoch_ [release] -> a pin that loads the later epoch [acquire]: a guard
//       that published an epoch beyond the retired one sees the unlink.
//   (2) the scan's fetch_add(0) on a free slot [release] -> the CAS that takes it next [acquire]: a
//       guard the scan did not see comes after it in the slot's modification order and sees the unlink,
//       whatever epoch it published. A plain load in the scan would not give this: that is the
//       store-load race which others close with a fence.
//   (3) ~Guard's store of 0 [release] -> the scan's fetch_add(0) [acquire]: what the reader did
//       happens before the free.
//   (4) Block::next likewise: a scan that missed a block precedes, in modification order, the CAS that
//       hung it up.
//
// When not to use it: where readers hold guards for long (one stuck reader keeps everything retired
// since), where writers must not fall behind, or where a std::shared_ptr copy per read is cheap enough.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>

namespace embedcore {

// Thread safety: all members from any thread, except construction and destruction.
class EpochDomain {
  struct alignas(64) Slot { // a cache line each, so that readers do not slow one another
    std::atomic<std::uint64_t> epoch{0};
  };
  static_assert(sizeof(Slot) == 64, "one reader's slot per cache line");

 public:
  // Held while a reader may touch what a writer can unlink. Movable; may be released by another thread.
  class Guard {
   public:
    Guard(Guard&& other) noexcept : slot_(other.slot_) { other.slot_ = nullptr; }
    Guard& operator=(Guard&& other) noexcept {
      if (this != &other) {
        release();
        slot_ = other.slot_;
        other.slot_ = nullptr;
      }
      return *this;
    }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() { release(); }

   private:
    friend class EpochDomain;
    explicit Guard(Slot* slot) : slot_(slot) {}
    void release() {
      if (slot_ != nullptr) slot_->epoch.store(0, std::memory_order_release); // pair (3)
      slot_ = nullptr;
    }
    Slot* slot_;
  };

  EpochDomain() = default;
  // Pre-condition: no guard is held. Runs every callback still waiting.
  ~EpochDomain();
  EpochDomain(const EpochDomain&) = delete;
  EpochDomain& operator=(const EpochDomain&) = delete;

  // Readers. A thread may hold several guards at once.
  [[nodiscard]] Guard pin();

  // Writers. Pre-condition of retire: what reclaim frees can no longer be reached by a reader that pins
  // from now on. It is only queued here; synchronize or try_reclaim run it, on the thread that calls
  // them. then, where there is one, runs when those who pinned before reclaim had run have left as well.
  // Callbacks must not throw and must not call try_reclaim or synchronize; retire is allowed.
  // std::bad_alloc: nothing was queued. What is queued is never lost: no memory is asked for after that.
  void retire(std::function<void()> reclaim, std::function<void()> then = {});

  // Frees what no guard can reach any more, without waiting, and returns how many callbacks ran: 0 also
  // while another thread is at it.
  std::size_t try_reclaim();

  // Waits until every guard held at the call has been released and everything retired before the call
  // has been freed. Pre-condition: the calling thread holds no guard (it would wait for itself).
  void synchronize();

  // Callbacks waiting to run.
  [[nodiscard]] std::size_t pending() const;

 private:
  static constexpr std::size_t block_slots = 64;
  struct Block {
    std::array<Slot, block_slots> slots;
    std::atomic<Block*> next{nullptr};
  };
  struct Retired {
    std::uint64_t epoch;
    std::function<void()> reclaim;
    std::function<void()> then;
  };
  using Queue = std::list<Retired>; // whose elements go from one to another without being copied

  void queue(Queue& from, Queue::iterator one);
  [[nodiscard]] std::uint64_t oldest_pinned();
  std::size_t reclaim_locked();

  std::atomic<std::uint64_t> epoch_{1};
  Block first_;
  mutable std::mutex retired_mutex_; // guards retired_; never held while a callback runs
  Queue retired_;
  std::mutex reclaim_mutex_; // one reclaiming thread at a time; held while callbacks run
};

} // namespace embedcore
