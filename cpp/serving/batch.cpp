// Many queries of one slot over one table, on several threads: for evaluation and calibration.
#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "serving/router.h"

namespace embedcore::serving {

namespace {

const QueryMatrix* matrix_of(const BatchRequest& request, const Generation& generation) {
  for (const QueryMatrix& matrix : request.vectors) {
    if (matrix.generation == generation.number) return &matrix;
  }
  return nullptr;
}

// Which rows to search in one generation; checked row by row, so that the message names the row.
Result<const QueryMatrix*> checked(const BatchRequest& request, const Generation& generation) {
  const QueryMatrix* matrix = matrix_of(request, generation);
  if (matrix == nullptr) {
    return Error{Code::failed_precondition, "the current table needs query vectors of generation " +
                                                std::to_string(generation.number) +
                                                "; encode with its model and call again"};
  }
  for (std::size_t row = 0; row < matrix->rows; ++row) {
    const Status status = check_query(generation, {matrix->values + row * matrix->dim, matrix->dim});
    if (!status.ok()) {
      return Error{status.error().code, "row " + std::to_string(row) + ": " + status.error().message};
    }
  }
  return matrix;
}

// The work of a batch, handed to threads row by row: rows differ in cost.
struct Work {
  const Execution& prototype;
  const QueryMatrix* source;
  const QueryMatrix* target;
  std::size_t rows;
  BatchAnswer& out;
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stop{false};

  std::mutex failing{};
  Status failure{}; // the first

  void fail(const Error& error) {
    const std::lock_guard lock(failing);
    if (failure.ok()) failure = error;
    stop.store(true, std::memory_order_relaxed);
  }

  void row(std::size_t i) {
    Execution run = prototype;
    if (source != nullptr) run.source = source->values + i * source->dim;
    if (target != nullptr) run.target = target->values + i * target->dim;
    const Result<Answer> answer = execute(run);
    // Without a deadline only a shard that is out of service leads to either.
    if (!answer.ok()) return fail(answer.error());
    if (answer.value().partial)
      return fail({Code::data_loss, "a shard of the batch is out of service; wait until it has recovered"});
    std::copy(answer.value().ids.begin(), answer.value().ids.end(),
              out.ids.begin() + static_cast<std::ptrdiff_t>(i * run.k));
    std::copy(answer.value().distances.begin(), answer.value().distances.end(),
              out.distances.begin() + static_cast<std::ptrdiff_t>(i * run.k));
  }

  void run(const std::function<bool(std::size_t)>& keep_going) {
    while (!stop.load(std::memory_order_relaxed)) {
      if (keep_going && !keep_going(next.load(std::memory_order_relaxed))) {
        stop.store(true, std::memory_order_relaxed);
        return;
      }
      const std::size_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= rows) return;
      row(i);
    }
  }
};

} // namespace

Result<BatchAnswer> Router::search_batch(const BatchRequest& request) const {
  if (request.k < 1 || request.k > max_k) {
    return Error{Code::invalid_argument,
                 "k must be 1 to " + std::to_string(max_k) + ", got " + std::to_string(request.k)};
  }
  std::shared_ptr<const Held> held; // not a guard: a batch lasts seconds, and publish waits for guards
  {
    const auto guard = epochs_.pin();
    const Held* current = current_.load(std::memory_order_acquire);
    if (current == nullptr) return Error{Code::unavailable, "no routing table was published yet"};
    held = current->shared_from_this();
  }
  const RoutingTable& table = held->table;
  const auto open = consumer_of(table, request.slot);
  if (!open.ok()) return open.error();
  const Consumer& consumer = *open.value();
  const auto route = route_of(consumer, 0, request.weight);
  if (!route.ok()) return route.error();

  const QueryMatrix* sides[2] = {nullptr, nullptr};
  for (const bool target : {false, true}) {
    if (!(target ? route.value().reads_target() : route.value().reads_source())) continue;
    const auto position = static_cast<std::size_t>(target ? consumer.target : consumer.source);
    const auto matrix = checked(request, table.generations[position]);
    if (!matrix.ok()) return matrix.error();
    sides[target ? 1 : 0] = matrix.value();
  }
  if (sides[0] != nullptr && sides[1] != nullptr && sides[0]->rows != sides[1]->rows) {
    return Error{Code::invalid_argument, "one query per row on both sides: got " +
                                             std::to_string(sides[0]->rows) + " rows of the source and " +
                                             std::to_string(sides[1]->rows) + " of the target"};
  }
  const std::size_t rows = (sides[0] != nullptr ? sides[0] : sides[1])->rows;
  const auto k = static_cast<std::size_t>(request.k);

  BatchAnswer out;
  out.weight = route.value().weight;
  out.table_version = table.version;
  out.ids.assign(rows * k, -1);
  out.distances.assign(rows * k, std::numeric_limits<float>::infinity());
  const Execution prototype{table, consumer, route.value(), nullptr, nullptr,
                            k,     nullptr,  SIZE_MAX,      0,       clock_};
  Work work{prototype, sides[0], sides[1], rows, out};
  const std::size_t wanted = request.threads == 0 ? std::thread::hardware_concurrency() : request.threads;
  const std::size_t threads = std::clamp<std::size_t>(wanted, 1, std::max<std::size_t>(rows, 1));
  {
    std::vector<std::jthread> helpers;
    for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back([&work] { work.run({}); });
    work.run(request.keep_going);
  }
  if (!work.failure.ok()) return work.failure.error();
  if (work.stop.load(std::memory_order_relaxed)) {
    return Error{Code::cancelled, "the batch was cancelled by its caller"};
  }
  return out;
}

} // namespace embedcore::serving
