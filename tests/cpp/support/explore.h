// Runs every interleaving of a small concurrent program, one atomic operation at a time.
//
// The code under test takes its atomics from a policy (dualwrite/bell.h: StdAtomics). Put in Explored
// (explored.h), and each atomic operation becomes a scheduling point. Threads are fibers on one thread; the
// program is run again and again, each time on another schedule, until no schedule is left that could end
// differently:
//
//   const auto result = explore([](Program& program) {
//     auto shared = std::make_shared<State>();            // made anew for each run
//     program.thread([shared] { ... });
//     program.thread([shared] { ... });
//     program.finally([shared] { CHECK(...); });          // after all threads, alone
//   });
//   CHECK(result.complete);
//
// What is skipped: schedules that only swap neighbouring operations on different atomics, or two loads of
// the same (dynamic partial-order reduction, Flanagan & Godefroid, POPL 2005, with sleep sets, Godefroid
// 1996): they lead to the same states.
//
// What it does not see: weak memory (operations are sequentially consistent here; ThreadSanitizer and the
// pairs named in each header are for that), and data that is not atomic. Make data of a test Explored::Atomic
// to have torn or early reads found. Loops must end by themselves, by Policy::wait, or call Policy::yield.
// A run in which all threads sleep is a lost wake-up: it is reported as deadlock.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace embedcore::test {

// makecontext switches stacks behind the sanitizer's back; what it would look at runs on one thread anyway.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool can_explore = false;
#else
inline constexpr bool can_explore = true;
#endif

// One run of a program: fibers, and who may go on.
class Program {
 public:
  void thread(std::function<void()> body) { bodies_.push_back(std::move(body)); }
  void finally(std::function<void()> check) { check_ = std::move(check); }

 private:
  friend class Explorer;
  std::vector<std::function<void()>> bodies_;
  std::function<void()> check_;
};

struct Exploration {
  std::size_t schedules = 0; // run to their end
  std::size_t deadlocks = 0;
  bool complete = false; // nothing was left out
};

class Explorer {
  struct Operation {
    const void* address = nullptr;
    bool writes = false;
    [[nodiscard]] bool depends_on(const Operation& other) const {
      return address == other.address && (writes || other.writes);
    }
  };
  enum class Fate : std::uint8_t { runnable, asleep, yielded, done };
  struct Fiber {
    ucontext_t context{};
    std::unique_ptr<char[]> stack = std::make_unique<char[]>(stack_bytes);
    std::function<void()> body;
    Fate fate = Fate::done;
    Operation next;
    const void* sleeps_at = nullptr;
  };
  using Clock = std::array<std::size_t, 8>;
  struct Node { // a state on the current schedule, and what was chosen there
    std::vector<std::size_t> enabled;
    std::uint32_t sleeping = 0, wanted = 0, done = 0; // sets of threads
    std::size_t chosen = 0;
    Operation operation;
  };
  static constexpr std::size_t stack_bytes = 64 * 1024;

 public:
  static Explorer*& current() {
    static Explorer* running = nullptr;
    return running;
  }

  Exploration run(const std::function<void(Program&)>& program, std::size_t most) {
    Exploration result;
    do {
      if (run_once(program, result)) ++result.schedules;
    } while (next_path() && result.schedules < most);
    result.complete = path_.empty();
    return result;
  }

  // From a fiber: the operation about to be made. Returns when it is this fiber's turn.
  void point(const void* address, bool writes) {
    if (running_ == nullptr) return; // set-up and checks
    running_->next = {address, writes};
    leave();
  }
  void sleep_at(const void* address) {
    running_->fate = Fate::asleep;
    running_->sleeps_at = address;
    running_->next = {address, true};
    leave();
  }
  void wake_all(const void* address) {
    for (auto& fiber : fibers_) {
      if (fiber->fate == Fate::asleep && fiber->sleeps_at == address) fiber->fate = Fate::runnable;
    }
  }
  void yield() {
    if (running_ == nullptr) return;
    running_->fate = Fate::yielded;
    running_->next = {&fibers_, true};
    leave();
  }

 private:
  void leave() {
    Fiber* fiber = running_;
    running_ = nullptr;
    swapcontext(&fiber->context, &scheduler_);
    running_ = fiber;
  }

  static void enter() {
    Fiber* fiber = current()->running_;
    fiber->body();
    fiber->fate = Fate::done;
    current()->running_ = nullptr;
    swapcontext(&fiber->context, &current()->scheduler_);
  }

  void resume(Fiber& fiber) {
    running_ = &fiber;
    swapcontext(&scheduler_, &fiber.context);
  }

  void start(Program& program) {
    while (fibers_.size() < program.bodies_.size()) fibers_.push_back(std::make_unique<Fiber>());
    for (std::size_t t = 0; t < program.bodies_.size(); ++t) {
      Fiber& fiber = *fibers_[t];
      fiber.body = std::move(program.bodies_[t]);
      fiber.fate = Fate::runnable;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = stack_bytes;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, &Explorer::enter, 0);
      resume(fiber); // up to its first operation, which touches nothing shared
    }
  }

  [[nodiscard]] std::vector<std::size_t> enabled() const {
    std::vector<std::size_t> can;
    for (std::size_t t = 0; t < fibers_.size(); ++t) {
      if (fibers_[t]->fate == Fate::runnable) can.push_back(t);
    }
    return can;
  }

  // Along path_ as far as it goes, then on. True where the end is a schedule not seen before.
  bool run_once(const std::function<void(Program&)>& program, Exploration& result) {
    current() = this;
    Program made;
    program(made);
    start(made);
    std::size_t depth = 0;
    bool redundant = false;
    for (;;) {
      std::vector<std::size_t> can = enabled();
      if (can.empty()) {
        for (auto& fiber : fibers_) { // nobody else can step, so those who yielded go round
          if (fiber->fate == Fate::yielded) fiber->fate = Fate::runnable;
        }
        can = enabled();
        if (can.empty()) break;
      }
      std::size_t chosen = can.front();
      if (redundant) {
        // Run to its end, so that nothing is left on the stacks; nothing new is to be learnt from it.
      } else if (depth < path_.size()) {
        chosen = path_[depth].chosen;
      } else {
        Node node;
        node.enabled = can;
        if (depth > 0) node.sleeping = still_asleep(path_[depth - 1]);
        const auto awake = std::find_if(can.begin(), can.end(),
                                        [&](std::size_t t) { return (node.sleeping >> t & 1u) == 0; });
        if (awake == can.end()) {
          redundant = true;
        } else {
          chosen = *awake;
          node.chosen = chosen;
          node.wanted = 1u << chosen;
          path_.push_back(std::move(node));
        }
      }
      if (!redundant) path_[depth].operation = fibers_[chosen]->next;
      ++depth;
      resume(*fibers_[chosen]);
      for (std::size_t t = 0; t < fibers_.size(); ++t) {
        if (t != chosen && fibers_[t]->fate == Fate::yielded) fibers_[t]->fate = Fate::runnable;
      }
    }
    const bool stuck = std::any_of(fibers_.begin(), fibers_.end(),
                                   [](const auto& fiber) { return fiber->fate != Fate::done; });
    if (stuck) ++result.deadlocks;
    if (!stuck && made.check_) made.check_();
    find_races();
    current() = nullptr;
    return !redundant;
  }

  // Who need not be tried after the parent's step, as it commutes with theirs.
  [[nodiscard]] std::uint32_t still_asleep(const Node& parent) const {
    std::uint32_t asleep = 0;
    for (std::size_t t = 0; t < fibers_.size(); ++t) {
      if (((parent.sleeping | parent.done) >> t & 1u) == 0 || t == parent.chosen) continue;
      if (fibers_[t]->fate == Fate::runnable && !fibers_[t]->next.depends_on(parent.operation)) {
        asleep |= 1u << t;
      }
    }
    return asleep;
  }

  // For each step the last one before it that it depends on and that does not happen before it anyway: there
  // its thread is to be tried first.
  void find_races() {
    std::vector<Clock> at(path_.size());
    std::vector<Clock> of(8, Clock{});
    for (std::size_t j = 0; j < path_.size(); ++j) {
      const std::size_t p = path_[j].chosen;
      Clock clock = of[p];
      bool found = false;
      for (std::size_t i = j; i-- > 0;) {
        const std::size_t q = path_[i].chosen;
        if (!path_[i].operation.depends_on(path_[j].operation)) continue;
        if (q != p && of[p][q] < i + 1 && !found) {
          found = true;
          Node& node = path_[i];
          const bool could = std::find(node.enabled.begin(), node.enabled.end(), p) != node.enabled.end();
          if (could) {
            node.wanted |= 1u << p;
          } else {
            for (const std::size_t t : node.enabled) node.wanted |= 1u << t;
          }
        }
        for (std::size_t k = 0; k < clock.size(); ++k) clock[k] = std::max(clock[k], at[i][k]);
      }
      clock[p] = j + 1;
      at[j] = of[p] = clock;
    }
  }

  // The deepest state with a thread still to be tried.
  bool next_path() {
    while (!path_.empty()) {
      Node& node = path_.back();
      node.done |= 1u << node.chosen;
      for (const std::size_t t : node.enabled) {
        if (((node.wanted & ~node.done & ~node.sleeping) >> t & 1u) == 0) continue;
        node.chosen = t;
        return true;
      }
      path_.pop_back();
    }
    return false;
  }

  ucontext_t scheduler_{};
  Fiber* running_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Node> path_;
};

// most: schedules after which it gives up; `complete` says whether it had to.
inline Exploration explore(const std::function<void(Program&)>& program, std::size_t most = 2'000'000) {
  return Explorer().run(program, most);
}

} // namespace embedcore::test
