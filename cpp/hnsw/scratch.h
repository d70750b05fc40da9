// What one walk needs beside the graph, kept between calls: visited bitmap, queue, buffers. An index keeps
// a small pool of them; taking one is an atomic exchange, so that readers never wait for each other.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "hnsw/queue.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

// One bit per slot. Cleared by undoing what was set, so that a walk costs what it visits.
class Visited {
 public:
  // Whether slot was not yet in the set.
  bool insert(Slot slot) {
    const std::size_t word = slot >> 6;
    const std::uint64_t bit = std::uint64_t{1} << (slot & 63);
    if (word >= words_.size()) words_.resize(word + word / 2 + 64); // the index grew during the walk
    if ((words_[word] & bit) != 0) return false;
    words_[word] |= bit;
    touched_.push_back(static_cast<std::uint32_t>(word));
    return true;
  }
  void clear() {
    for (const std::uint32_t word : touched_) words_[word] = 0;
    touched_.clear();
  }
  void reserve(std::size_t slots) {
    if (words_.size() * 64 < slots) words_.resize(slots / 64 + 1);
  }
  [[nodiscard]] std::size_t bytes() const {
    return words_.capacity() * sizeof(std::uint64_t) + touched_.capacity() * sizeof(std::uint32_t);
  }

 private:
  std::vector<std::uint64_t> words_;
  std::vector<std::uint32_t> touched_;
};

struct Scratch {
  Visited visited;
  SortedQueue queue;
  std::vector<Candidate> frontier; // min-heap of a walk that skips nodes at result time
  std::vector<Candidate> best;     // max-heap of its results
  std::vector<Slot> fresh;         // unvisited neighbours of one node
  std::vector<Slot> died;          // tombstones that were made while the walk went on
  std::vector<float> query;        // the query, of unit length under cosine
  std::vector<float> pair;         // the same for one node during neighbour selection
  std::vector<Candidate> found;
  std::vector<Candidate> chosen;
  std::uint64_t hops = 0;
  std::uint64_t distances = 0;

  [[nodiscard]] std::size_t bytes() const;
};

class ScratchPool {
 public:
  ScratchPool() = default;
  ~ScratchPool();
  ScratchPool(const ScratchPool&) = delete;
  ScratchPool& operator=(const ScratchPool&) = delete;

  // Owns a scratch until destroyed; then the pool keeps it, or frees it when the pool is full.
  class Lease {
   public:
    Lease(ScratchPool& pool, std::size_t slots);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Scratch& operator*() const { return *scratch_; }
    Scratch* operator->() const { return scratch_; }

   private:
    ScratchPool& pool_;
    Scratch* scratch_;
    std::size_t bytes_;
  };

  // Bytes of all scratches, in use or kept.
  [[nodiscard]] std::size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct alignas(64) Place {
    std::atomic<Scratch*> scratch{nullptr}; // exchanged out (acquire), CAS back in (release)
  };
  static constexpr std::size_t places = 64;

  std::array<Place, places> kept_;
  std::atomic<std::size_t> bytes_{0};
};

} // namespace embedcore::hnsw
