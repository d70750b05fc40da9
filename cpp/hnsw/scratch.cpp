// The pool of walk buffers.
#include "hnsw/scratch.h"

#include <exception>
#include <functional>
#include <thread>

namespace embedcore::hnsw {

namespace {

std::size_t home(std::size_t places) {
  static thread_local const std::size_t hash = std::hash<std::thread::id>{}(std::this_thread::get_id());
  return hash % places;
}

} // namespace

std::size_t Scratch::bytes() const {
  const std::size_t floats = nearest.capacity() + distances.capacity() + query.capacity();
  const std::size_t slots = nearest_slots.capacity() + fresh.capacity() + words.capacity() +
                            batch.capacity() + died.capacity() + parts.capacity();
  const std::size_t candidates = frontier.capacity() + best.capacity() + found.capacity() +
                                 pruned.capacity() + chosen.capacity() + starts.capacity() +
                                 usable.capacity();
  return sizeof(Scratch) + visited.bytes() + queue.bytes() + floats * sizeof(float) + slots * sizeof(Slot) +
         candidates * sizeof(Candidate) + walking.memory() + own.memory() + pair.memory();
}

ScratchPool::~ScratchPool() {
  for (Place& place : kept_) delete place.scratch.load(std::memory_order_acquire);
}

ScratchPool::Lease::Lease(ScratchPool& pool)
    : pool_(pool), scratch_(nullptr), bytes_(0), exceptions_(std::uncaught_exceptions()) {
  const std::size_t start = home(places);
  for (std::size_t i = 0; i < probed && scratch_ == nullptr; ++i) {
    auto& place = pool.kept_[(start + i) % places].scratch;
    if (place.load(std::memory_order_relaxed) == nullptr) continue;
    scratch_ = place.exchange(nullptr, std::memory_order_acquire);
  }
  if (scratch_ == nullptr) {
    scratch_ = new Scratch;
  } else {
    bytes_ = scratch_->bytes();
  }
  scratch_->died.clear();
  scratch_->hops = 0;
  scratch_->computed = 0;
}

ScratchPool::Lease::~Lease() {
  if (std::uncaught_exceptions() > exceptions_) {
    pool_.bytes_.fetch_sub(bytes_, std::memory_order_relaxed);
    delete scratch_;
    return;
  }
  scratch_->visited.clear();
  const std::size_t now = scratch_->bytes();
  if (now != bytes_) pool_.bytes_.fetch_add(now - bytes_, std::memory_order_relaxed); // wraps when smaller
  const std::size_t start = home(places);
  for (std::size_t i = 0; i < probed; ++i) {
    Scratch* none = nullptr;
    auto& place = pool_.kept_[(start + i) % places].scratch;
    if (place.compare_exchange_strong(none, scratch_, std::memory_order_release, std::memory_order_relaxed)) {
      return;
    }
  }
  pool_.bytes_.fetch_sub(now, std::memory_order_relaxed);
  delete scratch_;
}

} // namespace embedcore::hnsw
