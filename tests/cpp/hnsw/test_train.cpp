// When codes are trained, and what searches see of it.
#include <condition_variable>
#include <mutex>
#include <thread>

#include "upkeep_world.h"

using namespace embedcore;
using namespace embedcore::hnsw;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 24;
constexpr Kind coarse = {Dtype::float32, Codes::int4};
constexpr Kind fine = {Dtype::float32, Codes::int8};

std::uint64_t trained_on(const Index& index) { return index.stats().codes_trained_on; }

void add_scaled(UpkeepWorld& w, std::int64_t first, std::size_t n, float scale) {
  auto rows = random_rows(w.random, n, dim);
  for (float& x : rows) x *= scale;
  CHECK(w.index->add(numbered(first, n), rows.data(), 1).ok());
  for (std::size_t i = 0; i < n; ++i) {
    w.oracle.items[first + static_cast<std::int64_t>(i)] = Vector(&rows[i * dim], &rows[i * dim] + dim);
  }
}

// After 300 and 1,000 items, for which training gave up: the search that held the codec has ended since.
void expect_training_at_the_next_add(UpkeepWorld& w) {
  w.add(1300, 1);
  CHECK_EQ(trained_on(*w.index), std::uint64_t{1301});
}

} // namespace

TEST(codes_are_trained_at_256_items_and_not_before) {
  for (const Kind kind : {fine, coarse}) {
    UpkeepWorld w(dim, 6, 181, Metric::cosine, kind);
    const Index::Impl& x = IndexTestPeer::impl(*w.index);
    w.add(0, 200);
    w.add(200, 55);
    CHECK(x.space.codec.load() == nullptr);
    CHECK_EQ(trained_on(*w.index), std::uint64_t{0});
    CHECK(w.recall_now() > 0.9);
    w.add(255, 1);
    CHECK(x.space.codec.load() != nullptr);
    CHECK_EQ(trained_on(*w.index), std::uint64_t{256});
    w.expect_codes();
    w.oracle.expect_equal(*w.index);
    CHECK(w.recall_now() > 0.85);
  }
  UpkeepWorld plain(dim, 6, 181);
  plain.add(0, 400);
  CHECK_EQ(trained_on(*plain.index), std::uint64_t{0});
}

TEST(codes_are_trained_anew_at_four_times_the_items) {
  UpkeepWorld w(dim, 6, 182, Metric::l2, fine);
  w.add(0, 300); // in one call: trained before the first of them is in
  CHECK_EQ(trained_on(*w.index), std::uint64_t{300});
  w.add(300, 899);
  CHECK_EQ(trained_on(*w.index), std::uint64_t{300});
  w.add(1199, 1);
  CHECK_EQ(trained_on(*w.index), std::uint64_t{1200});
  w.expect_codes();
  w.oracle.expect_equal(*w.index);
  // No worse than an index of the same items without codes.
  UpkeepWorld plain(dim, 6, 182);
  plain.add(0, 300);
  plain.add(300, 899);
  plain.add(1199, 1);
  CHECK(plain.oracle.items == w.oracle.items);
  CHECK(w.recall_now() > plain.recall_now() - 0.03);
}

TEST(codes_are_trained_anew_when_new_items_lie_beyond_their_grid) {
  for (const Kind kind : {fine, coarse}) {
    UpkeepWorld w(dim, 6, 183, Metric::l2, kind);
    w.add(0, 1000);
    const float step = w.index->stats().codes_step;
    w.add(1000, 400); // as before: nothing to do
    CHECK_EQ(trained_on(*w.index), std::uint64_t{1000});
    add_scaled(w, 2000, 300, 20);
    CHECK_EQ(trained_on(*w.index), std::uint64_t{1000});
    add_scaled(w, 2300, 10, 20); // the next add notices
    CHECK_EQ(trained_on(*w.index), std::uint64_t{1710});
    CHECK(w.index->stats().codes_step > 4 * step);
    w.expect_codes();
    w.oracle.expect_equal(*w.index);
    add_scaled(w, 3000, 500, 20);
    CHECK_EQ(trained_on(*w.index), std::uint64_t{1710}); // it covers them now
  }
}

TEST(searches_are_right_before_during_and_after_training) {
  for (const Kind kind : {fine, coarse, Kind{Dtype::int8, Codes::int4}}) {
    UpkeepWorld w(dim, 6, 184, Metric::l2, kind);
    w.add(0, 60); // these stay
    const auto held = w.oracle.items;
    std::atomic<bool> stop{false};
    std::atomic<std::size_t> lost{0};
    std::atomic<std::size_t> untrue{0};
    std::vector<std::thread> readers;
    for (unsigned t = 0; t < 2; ++t) {
      readers.emplace_back([&, t] {
        std::mt19937 random(190 + t);
        while (!stop.load()) {
          const auto id = static_cast<std::int64_t>(random() % 60);
          const Vector& v = held.at(id);
          const Found found = search(*w.index, v.data(), 5, 100000); // sees everything
          lost += !found.ids.empty() && found.ids[0] == id ? 0u : 1u;
          for (std::size_t i = 0; i < found.ids.size(); ++i) {
            if (found.ids[i] >= 60) continue;
            const double d = true_distance(Metric::l2, v.data(), held.at(found.ids[i]).data(), dim);
            untrue += std::abs(d - found.distances[i]) < 1e-3 ? 0u : 1u;
          }
        }
      });
    }
    std::set<std::uint64_t> seen;
    for (std::int64_t first = 60; first < 1500; first += 40) {
      w.add(first, 40);
      seen.insert(trained_on(*w.index));
    }
    stop.store(true);
    for (std::thread& reader : readers) reader.join();
    CHECK(seen.size() >= 3); // none, the first, a second
    CHECK_EQ(lost.load(), std::size_t{0});
    CHECK_EQ(untrue.load(), std::size_t{0});
    w.oracle.expect_equal(*w.index);
    w.expect_codes();
  }
}

TEST(training_gives_up_for_a_search_that_trains_from_its_own_filter) {
  UpkeepWorld w(dim, 6, 185, Metric::l2, fine);
  w.add(0, 300);
  const Index::Impl& x = IndexTestPeer::impl(*w.index);
  const Codec* before = x.space.codec.load();
  struct Adder : IdFilter {
    explicit Adder(UpkeepWorld& world) : w(world) {}
    [[nodiscard]] bool allows(std::int64_t) const override {
      if (!added) {
        added = true;
        w.add(300, 1000); // four times and more: training is due
      }
      return true;
    }
    UpkeepWorld& w;
    mutable bool added = false;
  };
  const Adder adder(w);
  const Vector query = random_vector(w.random, dim);
  CHECK_EQ(search(*w.index, query.data(), 10, 50, &adder).ids.size(), std::size_t{10});
  CHECK(adder.added);
  CHECK(x.space.codec.load() == before);
  CHECK_EQ(trained_on(*w.index), std::uint64_t{300});
  w.expect_codes();
  w.oracle.expect_equal(*w.index);
  expect_training_at_the_next_add(w);
  w.expect_codes();
  w.oracle.expect_equal(*w.index);
}

TEST(training_gives_up_for_a_search_that_hangs_in_another_thread) {
  UpkeepWorld w(dim, 6, 186, Metric::l2, coarse);
  w.add(0, 300);
  struct Hanging : IdFilter {
    [[nodiscard]] bool allows(std::int64_t) const override {
      std::unique_lock lock(mutex);
      entered = true;
      changed.notify_all();
      changed.wait(lock, [&] { return released; });
      return true;
    }
    mutable std::mutex mutex;
    mutable std::condition_variable changed;
    mutable bool entered = false;
    bool released = false;
  };
  Hanging filter;
  Found found;
  const Vector query = random_vector(w.random, dim);
  std::thread searching([&] { found = search(*w.index, query.data(), 10, 50, &filter); });
  {
    std::unique_lock lock(filter.mutex);
    filter.changed.wait(lock, [&] { return filter.entered; });
  }
  w.add(300, 1000);
  CHECK_EQ(trained_on(*w.index), std::uint64_t{300});
  CHECK(w.recall_now() > 0.85); // others search on with the old codec
  w.expect_codes();
  {
    const std::lock_guard lock(filter.mutex);
    filter.released = true;
  }
  filter.changed.notify_all();
  searching.join();
  CHECK_EQ(found.ids.size(), std::size_t{10});
  expect_training_at_the_next_add(w);
  w.expect_codes();
  w.oracle.expect_equal(*w.index);
}
