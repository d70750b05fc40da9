// repair, compact and relocate: contents unchanged, invariants whole, recall kept, memory returned.
#include <chrono>
#include <thread>

#include "upkeep_world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 12;

struct World : UpkeepWorld {
  explicit World(std::uint32_t m = 8, std::uint32_t seed = 21) : UpkeepWorld(::dim, m, seed) {}
};

} // namespace

TEST(repair_leaves_no_link_to_a_tombstone_and_keeps_recall) {
  for (const double share : {0.1, 0.5, 0.9}) {
    World w;
    w.add(0, 1500);
    w.remove_share(share);
    CHECK(links_to_dead(*w.index) > 0);
    const std::size_t dead = w.index->tombstones();
    const hnsw::Report report = w.index->repair();
    CHECK(report.changed > 0);
    CHECK_EQ(w.index->tombstones(), dead);
    CHECK_EQ(links_to_dead(*w.index), std::size_t{0});
    w.oracle.expect_equal(*w.index);
    CHECK(w.recall_now() > 0.95);
    CHECK_EQ(w.index->repair().changed, std::size_t{0});
  }
}

TEST(compact_frees_slots_which_adds_reuse) {
  World w;
  w.add(0, 1000);
  const std::size_t slots = w.index->stats().slots;
  for (int round = 0; round < 5; ++round) {
    w.remove_share(0.3);
    const std::size_t dead = w.index->tombstones();
    CHECK_EQ(w.index->compact().freed, dead);
    CHECK_EQ(w.index->tombstones(), std::size_t{0});
    CHECK_EQ(w.index->stats().free, dead);
    w.add(10000 * (round + 1), dead);
    CHECK_EQ(w.index->stats().slots, slots);
    w.oracle.expect_equal(*w.index);
  }
  CHECK(w.recall_now() > 0.95);
}

TEST(long_churn_with_the_smallest_m_loses_nothing) {
  World w(2, 22);
  w.add(0, 300);
  for (int round = 1; round <= 30; ++round) {
    w.remove_share(0.4);
    if (round % 2 == 0) w.index->compact();
    if (round % 5 == 0) w.index->relocate();
    w.add(1000 * round, 100);
    w.oracle.expect_equal(*w.index);
  }
}

TEST(an_index_survives_losing_everything) {
  World w;
  w.add(0, 200);
  w.remove_share(1.0);
  CHECK_EQ(w.index->size(), std::size_t{0});
  CHECK_EQ(w.index->compact().freed, std::size_t{200});
  w.index->relocate();
  CHECK_EQ(w.index->stats().slots, std::size_t{0});
  CHECK(w.index->check().empty());
  w.add(500, 100);
  w.oracle.expect_equal(*w.index);
}

TEST(tombstones_of_replaced_items_are_compacted_too) {
  World w;
  w.add(0, 500);
  w.add(0, 500);
  CHECK_EQ(w.index->tombstones(), std::size_t{500});
  CHECK_EQ(w.index->compact().freed, std::size_t{500});
  w.oracle.expect_equal(*w.index);
  CHECK(w.recall_now() > 0.95);
}

// The entry goes while a node is added that is higher than all that stay, though not than the entry.
TEST(the_entry_is_the_highest_node_whatever_is_added_meanwhile) {
  World w(4);
  w.add(0, 300);
  Index::Impl& x = hnsw::IndexTestPeer::impl(*w.index);
  const std::uint32_t top = x.entry().level;
  std::vector<std::int64_t> high; // all on the two highest levels
  for (const auto& [id, v] : w.oracle.items) {
    if (x.level_of(id) + 1u >= top) high.push_back(id);
  }
  CHECK_EQ(w.index->remove(high), high.size());
  x.upkeep.horizon = x.horizon({});
  CHECK_EQ(x.mark_leaving(0, x.storage.end()), high.size());
  std::int64_t newcomer = 1000;
  while (x.level_of(newcomer) + 1u != top) ++newcomer;

  std::thread upkeep;
  {
    const std::shared_lock share(x.gate); // so that it looks around and then has to wait
    upkeep = std::thread([&x] { x.leave_entry(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const Vector v = random_vector(w.random, dim);
    CHECK(x.insert(newcomer, v.data()).ok());
  }
  upkeep.join();
  CHECK_EQ(x.entry().level, top - 1);
  CHECK_EQ(x.storage.node(x.entry().slot).id, newcomer);
}

TEST(relocate_fills_holes_and_returns_memory) {
  World w;
  w.add(0, 20000);
  const std::size_t before = w.index->memory_bytes();
  w.remove_share(0.8);
  CHECK(w.index->compact().freed > 15000);
  const hnsw::Report report = w.index->relocate();
  CHECK(report.changed > 2000);
  CHECK_EQ(w.index->stats().slots, w.index->size());
  CHECK_EQ(w.index->stats().free, std::size_t{0});
  CHECK(w.index->memory_bytes() < before / 2);
  w.oracle.expect_equal(*w.index);
  CHECK(w.recall_now() > 0.9);
}

TEST(relocate_moves_tombstones_as_well) {
  World w;
  w.add(0, 600);
  w.remove_share(0.5);
  w.index->compact();
  w.remove_share(0.3); // these stay tombstones
  const std::size_t dead = w.index->tombstones();
  w.index->relocate();
  CHECK_EQ(w.index->tombstones(), dead);
  CHECK_EQ(w.index->stats().slots, w.index->size() + dead);
  w.oracle.expect_equal(*w.index);
  CHECK_EQ(w.index->compact().freed, dead);
  w.oracle.expect_equal(*w.index);
}

TEST(a_verb_called_from_inside_a_search_neither_hangs_nor_frees_what_the_search_holds) {
  World w;
  w.add(0, 300);
  struct Meddler : hnsw::IdFilter {
    explicit Meddler(Index& meddled) : index(meddled) {}
    [[nodiscard]] bool allows(std::int64_t id) const override {
      if (id % 50 == 0) {
        const std::vector<std::int64_t> gone{id + 1};
        index.remove(gone);
        index.compact();
        index.relocate();
      }
      return true;
    }
    Index& index;
  };
  const Meddler meddler(*w.index);
  const Vector query = random_vector(w.random, dim);
  CHECK(search(*w.index, query.data(), 300, 300, &meddler).ids.size() > 280);
  w.index->compact();
  CHECK_EQ(w.index->size(), std::size_t{294});
  CHECK(w.index->check().empty());
}
