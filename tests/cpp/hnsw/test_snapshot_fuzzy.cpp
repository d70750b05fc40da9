// Snapshots that are taken while the index changes hold one moment of it.
#include <atomic>
#include <functional>
#include <thread>

#include "hnsw/snapshot_capture.h"
#include "snapshot_world.h"
#include "support/stress.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

// Vectors say which write made them: exact in float16 up to 2,048.
constexpr std::size_t dim = 8;
Vector stamped(std::int64_t id, int version) {
  std::mt19937 random(static_cast<unsigned>(id * 31 + version));
  Vector v = random_vector(random, dim);
  v[0] = static_cast<float>(version);
  return v;
}

} // namespace

TEST(a_capture_holds_its_moment_whatever_comes_after) {
  const Folder folder;
  for (const Kind kind : {Kind{}, Kind{hnsw::Dtype::float16, hnsw::Codes::int8}}) {
    for (const bool in_a_round : {false, true}) {
      const auto index = churned(600, 9, 3, Metric::l2, kind);
      if (in_a_round) index->compact(hnsw::Budget::seconds(0)); // one step of it
      const auto before = index->ids();
      std::vector<float> vectors(before.size() * 9);
      CHECK(index->get(before, vectors.data()).ok());
      {
        auto& impl = hnsw::IndexTestPeer::impl(*index);
        const hnsw::Capture moment(impl);
        std::mt19937 random(48);
        for (int round = 0; round < 3; ++round) {
          // Most of what was there goes, its slots would be free for what comes.
          CHECK(index->remove(std::span(before).subspan(static_cast<std::size_t>(round), 300)) > 0);
          index->compact();
          index->relocate(hnsw::Budget::seconds(0));
          CHECK(index->add(numbered(10000 + 500 * round, 500), random_rows(random, 500, 9).data(), 1).ok());
        }
        CHECK(index->stats().retired > 0); // kept back
        CHECK(hnsw::write_snapshot(impl, moment, {"x", 7}, folder.file("a")).ok());
      }
      CHECK(index->check().empty());
      CHECK_EQ(index->stats().retired, std::size_t{0});
      const auto loaded = Index::load(folder.file("a"));
      CHECK(loaded.ok());
      if (!loaded.ok()) continue;
      CHECK(loaded.value()->check().empty());
      CHECK(loaded.value()->ids() == before);
      std::vector<float> got(vectors.size());
      CHECK(loaded.value()->get(before, got.data()).ok());
      CHECK(got == vectors);
    }
  }
}

// Each id is written by one thread, its versions count up; every fifth takes it away. What a file may say of
// an id lies between what had returned before the save and what had begun before its end.
TEST(saves_at_once_with_writers_and_upkeep_hold_what_was_committed) {
  const Folder folder;
  constexpr std::size_t writers = 2;
  constexpr std::size_t own = 150; // ids
  const auto removes = [](int version) { return version % 5 == 0; };
  for (const Kind kind : {Kind{}, Kind{hnsw::Dtype::float16, hnsw::Codes::int8}}) {
    const auto index = make_index(dim, Metric::l2, 4, 0, kind);
    std::vector<std::atomic<int>> begun(writers * own);
    std::vector<std::atomic<int>> ended(writers * own);
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (std::size_t writer = 0; writer < writers; ++writer) {
      threads.emplace_back([&, writer] {
        std::mt19937 random(stress_seed(static_cast<unsigned>(writer)));
        while (!stop.load()) {
          const auto id = static_cast<std::int64_t>(writer * own + random() % own);
          const auto place = static_cast<std::size_t>(id);
          const int version = begun[place].load() + 1;
          if (version > 2000) continue;
          begun[place].store(version);
          if (removes(version)) {
            index->remove({&id, 1});
          } else {
            CHECK(index->add({&id, 1}, stamped(id, version).data(), 1).ok());
          }
          ended[place].store(version);
        }
      });
    }
    threads.emplace_back([&] {
      while (!stop.load()) {
        index->compact(hnsw::Budget::seconds(0.01));
        index->relocate(hnsw::Budget::seconds(0.001));
      }
    });
    threads.emplace_back([&] {
      std::mt19937 random(5);
      while (!stop.load()) search(*index, random_vector(random, dim).data(), 10, 20);
    });
    const int saves = static_cast<int>(12 * from_environment("EMBEDCORE_STRESS", 1));
    for (int save = 0; save < saves; ++save) {
      std::vector<int> least(begun.size());
      for (std::size_t i = 0; i < least.size(); ++i) least[i] = ended[i].load();
      CHECK(index->save(folder.file("a")).ok());
      std::vector<int> most(begun.size());
      for (std::size_t i = 0; i < most.size(); ++i) most[i] = begun[i].load();
      const auto loaded = Index::load(folder.file("a"), save % 2 == 0);
      CHECK(loaded.ok());
      if (!loaded.ok()) continue;
      Index& copy = *loaded.value();
      CHECK(copy.check().empty());
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < least.size(); ++i) {
        const auto id = static_cast<std::int64_t>(i);
        Vector got(dim);
        if (copy.contains(id)) {
          CHECK(copy.get({&id, 1}, got.data()).ok());
          const int version = static_cast<int>(got[0]);
          const bool possible = version >= least[i] && version <= most[i] && !removes(version);
          wrong += possible && (kind.dtype != hnsw::Dtype::float32 || got == stamped(id, version)) ? 0u : 1u;
        } else {
          bool gone = least[i] == 0;
          for (int v = least[i]; v <= most[i]; ++v) gone = gone || removes(v);
          wrong += gone ? 0u : 1u;
        }
      }
      CHECK_EQ(wrong, std::size_t{0});
      // Life goes on in what was loaded.
      const std::int64_t more = 5000;
      CHECK(copy.add({&more, 1}, stamped(more, 1).data(), 1).ok());
      copy.compact();
      CHECK(copy.check().empty());
    }
    stop.store(true);
    for (std::thread& thread : threads) thread.join();
    CHECK(index->check().empty());
  }
}
