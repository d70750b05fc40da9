// Running one loop body on several threads for the length of a call. No hidden pool: threads live as long
// as the call that asked for them.
#pragma once

#include <algorithm>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace embedcore::hnsw {

// threads as asked (0: all cores), but no more than there are pieces of work.
inline unsigned workers_for(unsigned threads, std::size_t pieces) {
  if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
  return static_cast<unsigned>(std::clamp<std::size_t>(pieces, 1, threads));
}

// Calls body(worker) for worker 0 to workers - 1 at once, or for fewer where the system refuses threads;
// worker 0 is the calling thread. Returns when all have returned; the first exception is rethrown then.
// So body must draw its work from a shared counter, not from its number.
template <class Body>
void run_workers(unsigned workers, const Body& body) {
  std::exception_ptr failure;
  std::mutex mutex;
  const auto guarded = [&](unsigned worker) {
    try {
      body(worker);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  others.reserve(workers);
  try {
    for (unsigned worker = 1; worker < workers; ++worker) others.emplace_back(guarded, worker);
  } catch (const std::system_error&) {
    // The system gives no more threads: the work is done by fewer, since workers draw pieces from one
    // counter.
  } catch (const std::bad_alloc&) {
    // Nor memory for one.
  }
  guarded(0);
  for (std::thread& thread : others) thread.join();
  if (failure) std::rethrow_exception(failure);
}

} // namespace embedcore::hnsw
