// Latency of searches beside a writer: what it costs that the writer works on the index that is searched and
// not on another one like it. Both threads share the memory and the cores either way, so the difference is
// what the two do to one another inside the index.
//
// Prints one JSON object per round and case: work (insert, compact), on (same, other), p50_us and p99_us of
// single searches, how many there were, and how much the writer got done meanwhile.
//
// Arguments: items.f32 queries.f32 dim metric(cosine|ip|l2) items_each ef seconds rounds
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "hnsw/index.h"

using namespace embedcore; // NOLINT

namespace {

using clock_type = std::chrono::steady_clock;

std::vector<float> floats(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(2);
  }
  std::vector<float> values(static_cast<std::size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
  return values;
}

struct World {
  std::vector<float> items;
  std::vector<float> queries;
  hnsw::Config config;
  std::size_t each = 0; // items that an index begins with
  std::size_t ef = 0;
  double seconds = 0;

  [[nodiscard]] std::size_t count() const { return items.size() / config.dim; }

  [[nodiscard]] std::shared_ptr<hnsw::Index> filled() const {
    auto index = hnsw::Index::create(config).value();
    std::vector<std::int64_t> ids(each);
    std::iota(ids.begin(), ids.end(), 0);
    if (!index->add(ids, items.data(), 0).ok()) std::exit(1);
    return index;
  }
};

struct Latencies {
  double p50 = 0;
  double p99 = 0;
  std::size_t count = 0;
};

// Searches for some seconds. Each latency is that of one call.
Latencies search(const World& world, const hnsw::Index& index, std::size_t from) {
  std::vector<double> found;
  std::vector<std::int64_t> ids(10);
  std::vector<float> distances(10);
  const std::size_t n = world.queries.size() / world.config.dim;
  const auto end = clock_type::now() + std::chrono::duration<double>(world.seconds);
  for (std::size_t i = from;; ++i) {
    const auto before = clock_type::now();
    if (before >= end) break;
    index.search(&world.queries[i % n * world.config.dim], 10, world.ef, nullptr, ids.data(),
                 distances.data());
    found.push_back(std::chrono::duration<double, std::micro>(clock_type::now() - before).count());
  }
  std::sort(found.begin(), found.end());
  return {found[found.size() / 2], found[found.size() * 99 / 100], found.size()};
}

void report(const char* work, const char* on, const Latencies& l, std::size_t written) {
  std::printf(
      "{\"work\": \"%s\", \"on\": \"%s\", \"p50_us\": %.2f, \"p99_us\": %.2f, \"searches\": %zu, "
      "\"written\": %zu}\n",
      work, on, l.p50, l.p99, l.count, written);
  std::fflush(stdout);
}

// Updates of random items, each with the vector of another.
void inserting(const World& world, const hnsw::Index& searched, hnsw::Index& written, const char* on,
               std::size_t round) {
  std::atomic<bool> stop{false};
  std::atomic<std::size_t> done{0};
  std::thread writer([&] {
    std::uint64_t state = 88172645463325252ull + round;
    while (!stop.load(std::memory_order_relaxed)) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      const auto id = static_cast<std::int64_t>((state >> 33) % world.each);
      const std::size_t row = (state >> 20) % world.count();
      if (!written.add({&id, 1}, &world.items[row * world.config.dim], 1).ok()) std::exit(1);
      done.fetch_add(1, std::memory_order_relaxed);
    }
  });
  const Latencies found = search(world, searched, round * 1000);
  stop.store(true);
  writer.join();
  report("insert", on, found, done.load());
}

// A fifth of the items is removed and comes back, and what that leaves is compacted, for as long as the
// searches go on. The removing is no part of what is measured: it waits until a search round is over.
void compacting(const World& world, const hnsw::Index& searched, hnsw::Index& written, const char* on,
                std::size_t round) {
  std::vector<std::int64_t> some;
  for (std::size_t i = round % 5; i < world.each; i += 5) some.push_back(static_cast<std::int64_t>(i));
  written.remove(some);
  std::atomic<bool> stop{false};
  std::atomic<std::size_t> done{0};
  World shorter = world;
  std::thread compactor([&] {
    hnsw::Budget budget;
    budget.spent = [&] { return stop.load(std::memory_order_relaxed); };
    const hnsw::Report made = written.compact(budget);
    done.store(made.freed);
    stop.store(true);
  });
  // Until it is done, or the time is over.
  std::vector<double> all;
  shorter.seconds = 0.02;
  std::size_t from = round * 1000;
  Latencies found;
  std::vector<double> p50s;
  std::vector<double> p99s;
  const auto end = clock_type::now() + std::chrono::duration<double>(world.seconds);
  while (!stop.load(std::memory_order_relaxed) && clock_type::now() < end) {
    const Latencies part = search(shorter, searched, from);
    from += part.count;
    found.count += part.count;
    p50s.push_back(part.p50);
    p99s.push_back(part.p99);
  }
  stop.store(true);
  compactor.join();
  if (p50s.empty()) return;
  std::sort(p50s.begin(), p50s.end());
  std::sort(p99s.begin(), p99s.end());
  found.p50 = p50s[p50s.size() / 2];
  found.p99 = p99s[p99s.size() / 2];
  report("compact", on, found, done.load());
  while (!written.compact().done) {
  }
  for (const std::int64_t id : some) {
    if (!written.add({&id, 1}, &world.items[static_cast<std::size_t>(id) * world.config.dim], 1).ok())
      std::exit(1);
  }
}

} // namespace

int main(int argc, char** argv) {
  if (argc != 9) {
    std::fprintf(stderr, "usage: %s items.f32 queries.f32 dim metric items ef seconds rounds\n", argv[0]);
    return 2;
  }
  World world;
  world.items = floats(argv[1]);
  world.queries = floats(argv[2]);
  world.config.dim = static_cast<std::uint32_t>(std::strtoul(argv[3], nullptr, 10));
  const std::string metric = argv[4];
  world.config.metric = metric == "ip"   ? hnsw::Metric::inner_product
                        : metric == "l2" ? hnsw::Metric::l2
                                         : hnsw::Metric::cosine;
  world.config.codes = hnsw::Codes::automatic;
  world.each = std::min<std::size_t>(std::strtoul(argv[5], nullptr, 10), world.count());
  world.ef = std::strtoul(argv[6], nullptr, 10);
  world.seconds = std::strtod(argv[7], nullptr);
  const std::size_t rounds = std::strtoul(argv[8], nullptr, 10);
  const auto searched = world.filled();
  const auto other = world.filled();
  for (std::size_t round = 0; round < rounds; ++round) {
    for (const bool same : {round % 2 == 0, round % 2 != 0}) {
      inserting(world, *searched, same ? *searched : *other, same ? "same" : "other", round);
    }
    searched->compact();
    other->compact();
  }
  for (std::size_t round = 0; round < rounds; ++round) {
    for (const bool same : {round % 2 == 0, round % 2 != 0}) {
      compacting(world, *searched, same ? *searched : *other, same ? "same" : "other", round);
    }
  }
}
