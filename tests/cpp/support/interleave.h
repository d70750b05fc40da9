// An exhaustive scheduler: runs a few threads of few atomic operations in every order there is, and checks
// each outcome.
//
// The code under test takes its atomics as a template parameter; Atomic below is one that stops before every
// operation. A thread is a function that depends on nothing but what its operations returned. To make one
// step of it, it is run from the start: operations that it made before return what they returned then, the
// next one is performed, and the one after that stops it by an exception. So there are no real threads, and a
// state is the memory and what each thread has seen. States that were met before are not gone into again,
// which leaves thousands where there are billions of orders.
//
// Sequential consistency only: what it shows holds for seq_cst operations. It is no check of weaker orders.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace embedcore::test {

class Model {
 public:
  using Thread = std::function<std::uint64_t()>; // its result is for the check of the outcome
  struct Outcome {
    std::vector<std::uint64_t> results; // of each thread
  };
  struct Explored {
    std::size_t states = 0;
    std::size_t ends = 0; // distinct ones
    std::size_t deadlocks = 0;
    std::vector<std::string> failures; // what the checks said, each once
  };
  // Says what is wrong, or nothing.
  using Check = std::function<std::string(const Outcome&)>;
  using Invariant = std::function<std::string()>;

  Model() { current() = this; }
  ~Model() { current() = nullptr; }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // All orders from the present memory on. always: after every step; at_end: when all threads have returned.
  Explored explore(const std::vector<Thread>& threads, const Check& at_end, const Invariant& always = {}) {
    Explored found;
    std::set<std::string> failures;
    std::set<std::vector<std::uint64_t>> met;
    std::vector<State> open{State{memory_, std::vector<Progress>(threads.size())}};
    met.insert(open.front().key());
    while (!open.empty()) {
      const State state = std::move(open.back());
      open.pop_back();
      ++found.states;
      bool moved = false;
      bool all_done = true;
      for (std::size_t t = 0; t < threads.size(); ++t) {
        if (state.threads[t].done) continue;
        all_done = false;
        State next = state;
        if (!advance(next, threads[t], t)) continue;
        moved = true;
        if (always) note(failures, always());
        if (met.insert(next.key()).second) open.push_back(std::move(next));
      }
      if (all_done) {
        ++found.ends;
        memory_ = state.memory;
        Outcome outcome;
        for (const Progress& p : state.threads) outcome.results.push_back(p.result);
        note(failures, at_end(outcome));
      } else if (!moved) {
        ++found.deadlocks;
      }
    }
    found.failures.assign(failures.begin(), failures.end());
    return found;
  }

  // --- for Atomic ---
  static Model*& current() {
    static thread_local Model* model = nullptr;
    return model;
  }
  std::size_t add_cell(std::uint64_t value) {
    memory_.push_back(value);
    return memory_.size() - 1;
  }
  [[nodiscard]] std::uint64_t& cell(std::size_t at) { return memory_[at]; }
  [[nodiscard]] std::size_t thread() const { return thread_; }
  // Performs an operation on the memory, or returns what it did when it was performed.
  template <class Operation>
  std::uint64_t perform(Operation operation) {
    return perform_when([] { return true; }, operation);
  }
  template <class Ready, class Operation>
  std::uint64_t perform_when(Ready ready, Operation operation) {
    if (seen_ == nullptr) return operation(); // before or after the threads
    if (at_ < seen_->size()) return (*seen_)[at_++];
    if (performed_) throw Pause{};
    if (!ready()) throw Blocked{};
    performed_ = true;
    ++at_;
    seen_->push_back(operation());
    return seen_->back();
  }

 private:
  struct Pause {};
  struct Blocked {};
  struct Progress {
    std::vector<std::uint64_t> seen; // what its operations returned
    bool done = false;
    std::uint64_t result = 0;
  };
  struct State {
    std::vector<std::uint64_t> memory;
    std::vector<Progress> threads;
    [[nodiscard]] std::vector<std::uint64_t> key() const {
      std::vector<std::uint64_t> all = memory;
      for (const Progress& p : threads) {
        all.push_back(p.seen.size());
        all.insert(all.end(), p.seen.begin(), p.seen.end());
      }
      return all;
    }
  };

  static void note(std::set<std::string>& failures, std::string what) {
    if (!what.empty()) failures.insert(std::move(what));
  }
  // One operation of the thread; false when it has to wait for others. memory_ is that of the state then.
  bool advance(State& state, const Thread& thread, std::size_t number) {
    Progress& progress = state.threads[number];
    memory_ = state.memory;
    seen_ = &progress.seen;
    thread_ = number;
    at_ = 0;
    performed_ = false;
    bool enabled = true;
    try {
      progress.result = thread();
      progress.done = true;
    } catch (const Pause&) {
    } catch (const Blocked&) {
      enabled = false;
    }
    seen_ = nullptr;
    state.memory = memory_;
    return enabled;
  }

  std::vector<std::uint64_t> memory_;
  std::vector<std::uint64_t>* seen_ = nullptr;
  std::size_t at_ = 0;
  std::size_t thread_ = 0;
  bool performed_ = false;
};

// One cell of the current model's memory, with the operations of std::atomic. Orders are taken as seq_cst.
template <class T>
class Atomic {
 public:
  explicit Atomic(T value = {}) : model_(*Model::current()), cell_(model_.add_cell(value)) {}
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  template <class... Order>
  T load(Order...) const {
    return static_cast<T>(model_.perform([this] { return value(); }));
  }
  template <class... Order>
  void store(T desired, Order...) {
    model_.perform([this, desired] { return value() = desired; });
  }
  template <class... Order>
  T fetch_add(T more, Order...) {
    return change([more](T now) { return static_cast<T>(now + more); });
  }
  template <class... Order>
  T fetch_sub(T less, Order...) {
    return change([less](T now) { return static_cast<T>(now - less); });
  }
  template <class... Order>
  bool compare_exchange_strong(T& expected, T desired, Order...) {
    const T wanted = expected;
    expected = static_cast<T>(model_.perform([this, wanted, desired] {
      const std::uint64_t before = value();
      if (before == wanted) value() = desired;
      return before;
    }));
    return expected == wanted;
  }
  // Goes on only once the predicate holds for the value.
  template <class Predicate>
  T await(Predicate holds) const {
    return static_cast<T>(model_.perform_when([&] { return holds(peek()); }, [this] { return value(); }));
  }
  // Without being an operation: for checks.
  [[nodiscard]] T peek() const { return static_cast<T>(value()); }

 private:
  std::uint64_t& value() const { return model_.cell(cell_); }
  template <class Change>
  T change(Change next) {
    return static_cast<T>(model_.perform([this, next] {
      const std::uint64_t before = value();
      value() = next(static_cast<T>(before));
      return before;
    }));
  }

  Model& model_;
  std::size_t cell_;
};

// The policy that templates over atomics take.
struct ModelAtomics {
  template <class T>
  using Atomic = test::Atomic<T>;

  template <class T>
  static void await(const Atomic<T>& value, std::type_identity_t<T> wanted) {
    value.await([wanted](T now) { return now == wanted; });
  }
  template <class T>
  static void notify(Atomic<T>&) {} // whoever awaits goes on by itself
  static std::size_t thread_number() { return Model::current()->thread(); }
};

} // namespace embedcore::test
