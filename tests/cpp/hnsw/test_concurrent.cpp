// Everything at once: writers, searches and upkeep on one index, for a few seconds. What must hold:
//   * an item that is present throughout, however often it is replaced, is found by every search that
//     looks at the whole graph
//   * a search returns no id twice, and nothing that its own thread removed before
//   * afterwards contents and invariants are whole
// Run under ThreadSanitizer, AddressSanitizer and UndefinedBehaviorSanitizer as well.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "support/stress.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 8;
constexpr std::size_t wide = 100000; // an ef beyond all slots: the walk sees every node it can reach

struct Stress {
  explicit Stress(Kind kind = {}) : index(make_index(dim, Metric::l2, 4, 0, kind)) {}

  // Near its home and always a little different, so that k = 5 around the home holds it.
  static Vector home_of(std::int64_t id) {
    std::mt19937 random(static_cast<unsigned>(id));
    Vector v = random_vector(random, dim);
    for (float& x : v) x = 100 * x;
    return v;
  }
  static Vector near(const Vector& home, std::mt19937& random) {
    Vector v = home;
    v[random() % dim] += 0.01f * static_cast<float>(random() % 100);
    return v;
  }

  void check_result(const Found& found) {
    const std::set<std::int64_t> unique(found.ids.begin(), found.ids.end());
    if (unique.size() != found.ids.size()) repeated.fetch_add(1);
    if (!std::is_sorted(found.distances.begin(), found.distances.end())) unsorted.fetch_add(1);
  }

  // Replaces its own ids, adds and removes others of its own.
  void write(std::int64_t first, unsigned seed, Oracle& mine) {
    std::mt19937 random(seed);
    while (!stop.load()) {
      const std::int64_t pinned = static_cast<std::int64_t>(random() % pinned_ids);
      if (first == 0) { // one writer keeps replacing the pinned items
        const Vector v = near(home_of(pinned), random);
        CHECK(index->add(std::vector<std::int64_t>{pinned}, v.data(), 1).ok());
        mine.items[pinned] = v;
      }
      const std::int64_t id = first + 1000 + static_cast<std::int64_t>(random() % 150);
      if (random() % 2 == 0) {
        const Vector v = random_vector(random, dim);
        CHECK(index->add(std::vector<std::int64_t>{id}, v.data(), 1).ok());
        mine.items[id] = v;
      } else {
        const bool had = mine.items.erase(id) != 0;
        if ((index->remove(std::vector<std::int64_t>{id}) == 1) != had) lost.fetch_add(1);
        Vector zero(dim, 0.0f);
        const Found found = search(*index, zero.data(), 200, wide);
        check_result(found);
        if (std::count(found.ids.begin(), found.ids.end(), id) != 0) undead.fetch_add(1);
      }
    }
  }

  void read(unsigned seed) {
    std::mt19937 random(seed);
    while (!stop.load()) {
      const auto id = static_cast<std::int64_t>(random() % pinned_ids);
      const Vector home = home_of(id);
      const Found found = search(*index, home.data(), 5, wide);
      check_result(found);
      // A walk may miss what a round of repair reconnects under it (repair.cpp); the next one does not.
      const auto holds = [id](const Found& f) { return std::count(f.ids.begin(), f.ids.end(), id) != 0; };
      if (!holds(found) && !holds(search(*index, home.data(), 5, wide))) missed.fetch_add(1);
      Vector out(dim);
      if (!index->get(std::vector<std::int64_t>{id}, out.data()).ok()) unknown.fetch_add(1);
      float score = 0;
      index->scores(home.data(), std::vector<std::int64_t>{id}, &score);
      if (!(score < 100.0f)) unknown.fetch_add(1);
      if (random() % 50 == 0 && index->ids().size() < pinned_ids) unlisted.fetch_add(1);
      reads.fetch_add(1);
    }
  }

  void expect_sound(const Index& checked, const char* what) {
    for (const std::string& problem : checked.check()) {
      if (broken.fetch_add(1) < 5) fail(__FILE__, __LINE__, what + (": " + problem));
    }
  }

  // Verbs to the end, some of them on two threads.
  void maintain() {
    for (unsigned round = 0; !stop.load(); ++round) {
      if (round % 4 == 0) index->repair();
      index->compact({{}, 1 + round % 2});
      if (round % 2 == 1) index->relocate({{}, 2});
      if (round % 8 == 0) expect_sound(*index, "index");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  // The same in pieces, so that rounds are left lying and checks and snapshots fall into the middle.
  void nibble() {
    const std::string path =
        (std::filesystem::temp_directory_path() / ("embedcore-stress-" + std::to_string(::getpid())))
            .string();
    for (unsigned round = 0; !stop.load(); ++round) {
      const auto budget = hnsw::Budget::seconds(round % 3 == 0 ? 0 : 0.0005);
      index->compact(budget);
      if (round % 2 == 0) index->relocate(budget);
      if (round % 5 == 0) index->repair(budget);
      if (round % 7 == 0) expect_sound(*index, "index");
      if (round % 16 == 0) {
        CHECK(index->save(path).ok());
        const auto loaded = Index::load(path);
        CHECK(loaded.ok());
        if (loaded.ok()) expect_sound(*loaded.value(), "snapshot");
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    std::filesystem::remove(path);
  }

  // Trains the codes anew again and again, now for a finer grid, now for a coarser one.
  void train() {
    Index::Impl& x = hnsw::IndexTestPeer::impl(*index);
    for (unsigned round = 0; !stop.load(); ++round) {
      {
        const std::unique_lock alone(x.gate);
        if (x.coding != nullptr && !x.codec_held.load()) {
          hnsw::CodecValues values = x.coding->values();
          values.step *= round % 2 == 0 ? 0.8f : 1.25f;
          if (x.install(std::move(values))) trained.fetch_add(1);
        }
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
  }
  // Everything at once for so long.
  void run(std::vector<Oracle>& oracles, std::chrono::milliseconds time) {
    for (std::int64_t id = 0; id < static_cast<std::int64_t>(pinned_ids); ++id) {
      const Vector v = home_of(id);
      CHECK(index->add(std::vector<std::int64_t>{id}, v.data()).ok());
      oracles[0].items[id] = v;
    }
    std::vector<std::thread> threads;
    threads.emplace_back([&] { write(0, stress_seed(51), oracles[0]); });
    threads.emplace_back([&] { write(10000, stress_seed(52), oracles[1]); });
    threads.emplace_back([&] { read(stress_seed(53)); });
    threads.emplace_back([&] { read(stress_seed(54)); });
    threads.emplace_back([&] { maintain(); });
    threads.emplace_back([&] { nibble(); });
    if (index->config().codes != hnsw::Codes::none) threads.emplace_back([&] { train(); });
    std::this_thread::sleep_for(stress_time(time));
    stop.store(true);
    for (std::thread& thread : threads) thread.join();

    CHECK_EQ(missed.load(), std::size_t{0});
    CHECK_EQ(unknown.load(), std::size_t{0});
    CHECK_EQ(unlisted.load(), std::size_t{0});
    CHECK_EQ(repeated.load(), std::size_t{0});
    CHECK_EQ(unsorted.load(), std::size_t{0});
    CHECK_EQ(undead.load(), std::size_t{0});
    CHECK_EQ(lost.load(), std::size_t{0});
    CHECK_EQ(broken.load(), std::size_t{0});
    CHECK(reads.load() > 0);
  }
  void expect_whole(std::vector<Oracle>& oracles) const {
    Oracle all(Metric::l2, dim);
    for (const Oracle& oracle : oracles) {
      for (const auto& [id, v] : oracle.items) all.items[id] = kept(index->config(), v.data());
    }
    all.expect_equal(*index);
    index->compact();
    index->relocate();
    all.expect_equal(*index);
    CHECK_EQ(index->tombstones(), std::size_t{0});
  }

  static constexpr std::size_t pinned_ids = 20;
  std::shared_ptr<Index> index;
  std::atomic<bool> stop{false};
  std::atomic<std::size_t> missed{0}, unknown{0}, unlisted{0}, repeated{0}, unsorted{0}, undead{0}, lost{0},
      broken{0}, reads{0}, trained{0};
};

} // namespace

TEST(writers_searches_and_upkeep_at_once) {
  Stress s;
  std::vector<Oracle> oracles(2, Oracle(Metric::l2, dim));
  s.run(oracles, std::chrono::seconds(3));
  s.expect_whole(oracles);
}

TEST(writers_searches_upkeep_and_training_at_once) {
  for (const Kind kind :
       {Kind{hnsw::Dtype::float32, hnsw::Codes::int8}, Kind{hnsw::Dtype::bfloat16, hnsw::Codes::int4}}) {
    Stress s(kind);
    std::vector<Oracle> oracles(2, Oracle(Metric::l2, dim));
    // Others that stay, so that there are codes from the start.
    std::mt19937 random(55);
    const auto rows = random_rows(random, 400, dim);
    CHECK(s.index->add(numbered(50000, 400), rows.data(), 1).ok());
    for (std::size_t i = 0; i < 400; ++i) {
      oracles[1].items[50000 + static_cast<std::int64_t>(i)] = Vector(&rows[i * dim], &rows[i * dim] + dim);
    }
    s.run(oracles, std::chrono::seconds(2));
    CHECK(s.trained.load() > 0);
    s.expect_whole(oracles);
  }
}

TEST(threads_that_write_the_same_ids_leave_one_version_of_each) {
  const auto index = make_index(dim, Metric::l2, 4);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(60 + t);
      for (int step = 0; step < 200; ++step) {
        const std::vector<std::int64_t> id{static_cast<std::int64_t>(random() % 10)};
        if (random() % 4 == 0) {
          index->remove(id);
        } else {
          const Vector v = random_vector(random, dim);
          CHECK(index->add(id, v.data(), 1).ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(index->check().empty());
  const Vector query(dim, 0.0f);
  std::vector<std::int64_t> found = search(*index, query.data(), 50, wide).ids;
  std::sort(found.begin(), found.end());
  CHECK(found == index->ids());
}

TEST(the_first_items_may_come_from_many_threads_at_once) {
  for (unsigned round = 0; round < 30; ++round) {
    const auto index = make_index(dim, Metric::l2, 2, round);
    std::vector<std::thread> threads;
    for (std::int64_t t = 0; t < 6; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(static_cast<unsigned>(t));
        const Vector v = random_vector(random, dim);
        CHECK(index->add(std::vector<std::int64_t>{t}, v.data(), 1).ok());
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_EQ(index->size(), std::size_t{6});
    CHECK(index->check().empty());
  }
}
