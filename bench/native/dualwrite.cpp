// Empty operations through the write stream: what it costs to hand a write to lanes that do nothing with it.
// One producer; prints one JSON object per round and case, rates in operations per second of wall clock.
//
//   ring    claim, publish and ring.h's readers, without ids or vectors
//   writer  DualWriter::write of one remove per call, down to targets that return at once
//
// Arguments: operations, rounds.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "dualwrite/dual_writer.h"

using namespace embedcore;            // NOLINT
using namespace embedcore::dualwrite; // NOLINT

namespace {

using clock_type = std::chrono::steady_clock;

void report(const char* what, std::size_t lanes, std::size_t batch, std::size_t operations,
            clock_type::time_point start, clock_type::time_point accepted) {
  const auto end = clock_type::now();
  const auto rate = [&](clock_type::time_point until) {
    return static_cast<double>(operations) / std::chrono::duration<double>(until - start).count();
  };
  std::printf(
      "{\"case\": \"%s\", \"lanes\": %zu, \"batch\": %zu, \"accepted_per_s\": %.0f, \"applied_per_s\": "
      "%.0f}\n",
      what, lanes, batch, rate(accepted), rate(end));
}

void run_ring(std::size_t lanes, std::size_t batch, std::size_t operations) {
  Ring<Entry> ring(65536);
  Bell<> room, work;
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    if (!ring.join(lane, 0, false)) std::abort();
  }
  std::vector<std::thread> readers;
  const auto start = clock_type::now();
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    readers.emplace_back([&, lane] {
      std::uint64_t first = 0, sum = 0;
      std::size_t count = 0;
      for (std::size_t seen = 0; seen < operations;) {
        if (ring.begin(lane, 64, first, count) != Turn::ready) {
          const auto key = work.key();
          if (ring.begin(lane, 64, first, count) != Turn::ready) {
            work.wait(key);
            continue;
          }
        }
        for (std::size_t i = 0; i < count; ++i) sum += static_cast<std::uint64_t>(ring.entry(first + i).id);
        ring.end(lane, count);
        room.ring();
        seen += count;
      }
      if (sum == 1) std::abort(); // so that it is read
    });
  }
  for (std::size_t sent = 0; sent < operations; sent += batch) {
    auto first = ring.try_claim(batch);
    while (!first) {
      const auto key = room.key();
      if ((first = ring.try_claim(batch))) break;
      room.wait(key);
    }
    for (std::size_t i = 0; i < batch; ++i) ring.entry(*first + i).id = static_cast<std::int64_t>(i);
    ring.publish(*first, batch);
    work.ring();
  }
  const auto accepted = clock_type::now();
  for (std::thread& reader : readers) reader.join();
  report("ring", lanes, batch, operations, start, accepted);
}

class Nothing final : public Target {
 public:
  Status add(std::span<const std::int64_t>, const float*, unsigned) override { return {}; }
  Status remove(std::span<const std::int64_t>) override { return {}; }
  [[nodiscard]] const void* index() const override { return this; }
};

void run_writer(std::size_t lanes, std::size_t operations) {
  std::vector<LaneSpec> specs(lanes);
  for (LaneSpec& spec : specs) {
    spec.target = std::make_shared<Nothing>();
    spec.rules.dim = 1;
  }
  const auto writer = std::move(DualWriter::create(std::move(specs), Options{}).value());
  const auto start = clock_type::now();
  for (std::size_t i = 0; i < operations; ++i) {
    const auto id = static_cast<std::int64_t>(i);
    Writes writes;
    writes.op = Op::remove;
    writes.ids = {&id, 1};
    if (!writer->write(writes).ok()) std::abort();
  }
  const auto accepted = clock_type::now();
  if (!writer->wait(operations).ok()) std::abort();
  report("writer", lanes, 1, operations, start, accepted);
}

} // namespace

int main(int argc, char** argv) {
  const std::size_t operations = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 4'000'000) / 64 * 64;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 3;
  for (int round = 0; round < rounds; ++round) {
    for (const std::size_t lanes : {1u, 2u}) {
      for (const std::size_t batch : {1u, 64u}) run_ring(lanes, batch, operations);
      run_writer(lanes, operations);
    }
  }
}
