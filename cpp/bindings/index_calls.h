// How calls of the index run under Python: interruption, callbacks, filters, threads.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "hnsw/filter.h"
#include "hnsw/parallel.h"

namespace embedcore::bindings {

namespace py = pybind11;

// Asks the interpreter, at most ten times a second, whether to go on: Ctrl-C, and a progress callback.
// poll() is for the thread that called into the module, without the GIL.
class Interruption {
 public:
  explicit Interruption(py::object progress = py::none(), std::size_t total = 0)
      : progress_(std::move(progress)), total_(total) {}

  bool poll(std::size_t done) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(100)) return true;
    last_ = now;
    const py::gil_scoped_acquire gil;
    try {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (!progress_.is_none()) progress_(done, total_);
      return true;
    } catch (py::error_already_set& error) {
      error_ = std::make_unique<py::error_already_set>(std::move(error));
      return false;
    }
  }
  // With the GIL held, after the work: raises what stopped it.
  void rethrow() {
    if (error_) throw py::error_already_set(std::move(*error_));
  }

 private:
  py::object progress_;
  std::size_t total_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::unique_ptr<py::error_already_set> error_;
};

// A Python callable id -> bool. Takes the GIL for each id; the first exception ends the search.
class CallableFilter final : public hnsw::IdFilter {
 public:
  explicit CallableFilter(py::object callable) : callable_(std::move(callable)) {}

  [[nodiscard]] bool allows(std::int64_t id) const override {
    if (failed_) return false;
    const py::gil_scoped_acquire gil;
    try {
      const int truth = PyObject_IsTrue(callable_(id).ptr());
      if (truth < 0) throw py::error_already_set();
      return truth == 1;
    } catch (py::error_already_set& error) {
      error_ = std::make_unique<py::error_already_set>(std::move(error));
      failed_ = true;
      return false;
    }
  }
  [[nodiscard]] bool cancelled() const override { return failed_; }
  void rethrow() const {
    if (error_) throw py::error_already_set(std::move(*error_));
  }

 private:
  py::object callable_;
  mutable bool failed_ = false; // used by one thread: searches with a callable do not fan out
  mutable std::unique_ptr<py::error_already_set> error_;
};

// The filter argument of a call: None, an IdSet, or a callable.
struct FilterArgument {
  FilterArgument() = default;
  explicit FilterArgument(const py::object& object) {
    if (object.is_none()) return;
    if (py::isinstance<hnsw::IdSet>(object)) {
      filter = object.cast<const hnsw::IdSet*>();
      empty = object.cast<const hnsw::IdSet*>()->size() == 0;
    } else {
      filter = &callable.emplace(object);
    }
  }
  std::optional<CallableFilter> callable;
  const hnsw::IdFilter* filter = nullptr;
  bool empty = false;
};

// Runs body(first, count) for chunks of up to `limit` of n queries, without the GIL; raises what stops it.
// A callable is asked by the calling thread only. A few queries start no thread.
template <class Body>
void for_each_chunk(std::size_t n, std::size_t limit, unsigned threads, const FilterArgument& filter,
                    const Body& body) {
  constexpr std::size_t worth_a_thread = 4; // queries
  Interruption interruption;
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};
  {
    const py::gil_scoped_release release;
    const bool alone = filter.callable || n < 2 * worth_a_thread;
    const unsigned workers = alone ? 1 : hnsw::workers_for(threads, n / worth_a_thread);
    // Several chunks a worker, so that none waits long for the last.
    const std::size_t even = std::max(worth_a_thread, n / (4 * std::size_t{workers}));
    const std::size_t size = workers == 1 ? limit : std::min(limit, even);
    hnsw::run_workers(workers, [&](unsigned worker) {
      while (!stop.load(std::memory_order_relaxed)) {
        const std::size_t first = next.fetch_add(size, std::memory_order_relaxed);
        if (first >= n) return;
        body(first, std::min(size, n - first));
        const bool failed = filter.callable && filter.callable->cancelled();
        if (failed || (worker == 0 && !interruption.poll(first))) stop.store(true, std::memory_order_relaxed);
      }
    });
  }
  interruption.rethrow();
  if (filter.callable) filter.callable->rethrow();
}

} // namespace embedcore::bindings
