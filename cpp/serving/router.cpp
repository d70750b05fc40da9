// Publishing a table, and one query over it.
#include "serving/router.h"

#include <chrono>
#include <string>
#include <utility>

#include "serving/filter.h"

namespace embedcore::serving {

std::uint64_t steady_now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}

namespace {

Error no_table() { return {Code::unavailable, "no routing table was published yet; retry after the start"}; }

const QueryVector* vector_of(const Request& request, const Generation& generation) {
  for (const QueryVector& vector : request.vectors) {
    if (vector.generation == generation.number) return &vector;
  }
  return nullptr;
}

Outcome outcome_of(const Result<Answer>& result) {
  if (!result.ok()) return Outcome::error;
  if (result.value().partial) return Outcome::partial;
  return result.value().ids.empty() ? Outcome::empty : Outcome::answer;
}

// An error of ours, against one of the caller's input.
bool counts(const Result<Answer>& result) {
  if (result.ok()) return result.value().missing_generation < 0;
  const Code code = result.error().code;
  return code == Code::deadline_exceeded || code == Code::internal || code == Code::data_loss;
}

} // namespace

Router::~Router() {
  for (auto& slot : counters_) delete slot.load(std::memory_order_acquire);
}

Status Router::publish(RoutingTable table) {
  if (Status status = validate(table); !status.ok()) return status;
  auto fresh = std::make_shared<const Held>(std::move(table));
  std::shared_ptr<const Held> old;
  {
    const std::lock_guard lock(publish_mutex_);
    if (owner_ != nullptr && fresh->table.version <= owner_->table.version) {
      return {Code::failed_precondition,
              "table version " + std::to_string(fresh->table.version) + " is not above the current " +
                  std::to_string(owner_->table.version) + "; build it from the current state again"};
    }
    for (std::size_t slot = 0; slot < fresh->table.consumers.size(); ++slot) {
      if (counters_[slot].load(std::memory_order_relaxed) == nullptr) {
        counters_[slot].store(new SlotCounters, std::memory_order_release);
      }
    }
    old = std::exchange(owner_, std::move(fresh));
    current_.store(owner_.get(), std::memory_order_release);
  }
  // Outside the lock, so that the next publisher does not wait for these readers.
  if (old != nullptr) epochs_.synchronize();
  return {};
}

std::uint64_t Router::version() const {
  const auto guard = epochs_.pin();
  const Held* held = current_.load(std::memory_order_acquire);
  return held == nullptr ? 0 : held->table.version;
}

Result<Plan> Router::plan(std::size_t slot, std::uint64_t user_hash) const {
  const auto guard = epochs_.pin();
  const Held* held = current_.load(std::memory_order_acquire);
  if (held == nullptr) return no_table();
  const RoutingTable& table = held->table;
  const auto open = consumer_of(table, slot);
  if (!open.ok()) return open.error();
  const Consumer& consumer = *open.value();
  const auto route = route_of(consumer, user_hash, no_override);
  if (!route.ok()) return route.error();
  Plan plan{{}, route.value().weight, route.value().arm, table.version};
  const auto add = [&](std::int32_t position) {
    plan.generations.push_back(table.generations[static_cast<std::size_t>(position)].number);
  };
  if (route.value().reads_source()) add(consumer.source);
  if (route.value().reads_target()) add(consumer.target);
  return plan;
}

Result<Answer> Router::search(const Request& request) const {
  const std::uint64_t begin = clock_();
  Result<Answer> result = search_pinned(request);
  // A weight override is an evaluation or a shadow, not traffic.
  if (request.weight == no_override && request.slot < max_consumers && counts(result)) {
    SlotCounters* counters = counters_[request.slot].load(std::memory_order_acquire);
    if (counters != nullptr) counters->record(outcome_of(result), clock_() - begin);
  }
  return result;
}

Result<Answer> Router::search_pinned(const Request& request) const {
  if (request.k < 1 || request.k > max_k) {
    return Error{Code::invalid_argument,
                 "k must be 1 to " + std::to_string(max_k) + ", got " + std::to_string(request.k)};
  }
  const auto guard = epochs_.pin();
  const Held* held = current_.load(std::memory_order_acquire);
  if (held == nullptr) return no_table();
  const RoutingTable& table = held->table;
  const auto open = consumer_of(table, request.slot);
  if (!open.ok()) return open.error();
  if (request.filter.has_value() && !SortedIds::valid(*request.filter)) {
    return Error{Code::invalid_argument, "the filter's ids must ascend strictly; sort them, each once"};
  }
  const Consumer& consumer = *open.value();
  const auto route = route_of(consumer, request.user_hash, request.weight);
  if (!route.ok()) return route.error();

  Execution run{table,   consumer, route.value(),       nullptr, nullptr, static_cast<std::size_t>(request.k),
                nullptr, SIZE_MAX, request.deadline_ns, clock_};
  const auto take = [&](std::int32_t position, const float*& query) -> Result<std::int64_t> {
    const Generation& generation = table.generations[static_cast<std::size_t>(position)];
    const QueryVector* vector = vector_of(request, generation);
    if (vector == nullptr) return generation.number;
    if (Status status = check_query(generation, vector->values); !status.ok()) return status.error();
    query = vector->values.data();
    return std::int64_t{-1};
  };
  std::int64_t missing = -1;
  for (const bool source : {true, false}) {
    if (!(source ? run.route.reads_source() : run.route.reads_target())) continue;
    const auto taken = take(source ? consumer.source : consumer.target, source ? run.source : run.target);
    if (!taken.ok()) return taken.error();
    if (missing < 0) missing = taken.value();
  }
  if (missing >= 0) {
    Answer answer;
    answer.weight = run.route.weight;
    answer.arm = run.route.arm;
    answer.table_version = table.version;
    answer.missing_generation = missing;
    return answer;
  }
  if (!request.filter.has_value()) return execute(run);
  const SortedIds filter(*request.filter);
  run.filter = &filter;
  run.allowed = request.filter->size();
  return execute(run);
}

Result<CounterSnapshot> Router::counters(std::size_t slot) const {
  const SlotCounters* counters =
      slot < max_consumers ? counters_[slot].load(std::memory_order_acquire) : nullptr;
  if (counters == nullptr) {
    return Error{Code::not_found, "no routing table has had consumer slot " + std::to_string(slot) + " yet"};
  }
  return counters->snapshot();
}

} // namespace embedcore::serving
