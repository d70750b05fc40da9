// The latency buckets tile the axis, and counters add up from many threads.
#include "serving/counters.h"

#include <thread>
#include <vector>

#include "check.h"

using namespace embedcore::serving;

TEST(latency_buckets_tile_the_axis) {
  CHECK_EQ(latency::bucket_of(0), std::size_t{0});
  CHECK_EQ(latency::end_of(0), std::uint64_t{1024});
  for (std::size_t bucket = 0; bucket + 1 < latency::buckets; ++bucket) {
    const std::uint64_t end = latency::end_of(bucket);
    CHECK_EQ(latency::bucket_of(end - 1), bucket);
    CHECK_EQ(latency::bucket_of(end), bucket + 1);
    if (bucket > 0) CHECK(double(end) / double(latency::end_of(bucket - 1)) <= 1.25);
  }
  CHECK_EQ(latency::end_of(latency::buckets - 2), std::uint64_t{1} << 36);
  CHECK_EQ(latency::bucket_of(~std::uint64_t{0}), latency::buckets - 1);
}

TEST(counters_add_up_from_many_threads) {
  SlotCounters counters;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&counters] {
      for (int i = 0; i < 1000; ++i) {
        counters.record(i % 10 == 0   ? Outcome::empty
                        : i % 10 == 1 ? Outcome::partial
                        : i % 10 == 2 ? Outcome::error
                                      : Outcome::answer,
                        2000);
      }
    });
  }
  for (auto& t : threads) t.join();
  const CounterSnapshot snapshot = counters.snapshot();
  CHECK_EQ(snapshot.queries, std::uint64_t{4000});
  CHECK_EQ(snapshot.empty, std::uint64_t{400});
  CHECK_EQ(snapshot.partial, std::uint64_t{400});
  CHECK_EQ(snapshot.errors, std::uint64_t{400});
  CHECK_EQ(snapshot.latency_sum_ns, std::uint64_t{8'000'000});
  CHECK_EQ(snapshot.latency_counts[latency::bucket_of(2000)], std::uint64_t{4000});
}
