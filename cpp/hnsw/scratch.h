// What one walk needs beside the graph, kept between calls: visited bitmap, queue, buffers. An index keeps
// a small pool of them; taking one is an atomic exchange, so that readers never wait for each other.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "hnsw/probe.h"
#include "hnsw/queue.h"
#include "hnsw/storage.h"
#include "hnsw/visited.h"

namespace embedcore::hnsw {

struct Scratch {
  Visited visited;
  SortedQueue queue;               // of a walk above level 0
  Walk walk{};                     // on level 0; its arrays are the next two, visited's and distances
  std::vector<float> nearest;      // distances of its queue
  std::vector<Slot> nearest_slots; // and their slots
  std::vector<float> distances;    // of the nodes just met
  std::vector<Candidate> frontier; // min-heap of a walk that skips nodes at result time
  std::vector<Candidate> best;     // max-heap of its results
  std::vector<std::int32_t> parts; // of their rows
  std::vector<Word> words;         // of a list, as they were
  std::vector<Slot> fresh;         // unvisited neighbours of one node
  std::vector<Slot> batch;         // slots whose distances are asked for together
  std::vector<Slot> died;          // tombstones that were made while the walk went on
  std::vector<float> query;        // the query, of unit length under cosine
  ProbeBuffer walking;             // the same as the walk measures it
  ProbeBuffer own;                 // a stored vector whose neighbours are chosen
  ProbeBuffer pair;                // one of the candidates
  std::vector<Candidate> found;
  std::vector<Candidate> pruned;
  std::vector<Candidate> chosen;
  std::vector<Candidate> starts; // of a walk that looks for neighbours; then what it met
  std::vector<Candidate> usable; // of those
  std::uint64_t hops = 0;
  std::uint64_t computed = 0;

  [[nodiscard]] std::size_t bytes() const;
};

class ScratchPool {
 public:
  ScratchPool() = default;
  ~ScratchPool();
  ScratchPool(const ScratchPool&) = delete;
  ScratchPool& operator=(const ScratchPool&) = delete;

  // Owns a scratch until destroyed; then the pool keeps it, or frees it when the pool is full or an exception
  // is under way, which may have left its buffers half made and its bitmap half cleared.
  class Lease {
   public:
    explicit Lease(ScratchPool& pool);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Scratch& operator*() const { return *scratch_; }
    Scratch* operator->() const { return scratch_; }

   private:
    ScratchPool& pool_;
    Scratch* scratch_;
    std::size_t bytes_;
    int exceptions_; // under way when it was taken
  };

  // Bytes of all scratches, in use or kept.
  [[nodiscard]] std::size_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct alignas(64) Place {
    std::atomic<Scratch*> scratch{nullptr}; // exchanged out (acquire), CAS back in (release)
  };
  static constexpr std::size_t places = 64;
  static constexpr std::size_t probed = 8; // places that one thread looks at

  std::array<Place, places> kept_;
  std::atomic<std::size_t> bytes_{0};
};

} // namespace embedcore::hnsw
