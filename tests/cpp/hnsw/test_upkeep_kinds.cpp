// repair, compact and relocate in every dtype with every kind of codes: what test_upkeep.cpp asks of float32.
#include "upkeep_world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 48;

template <class Check>
void for_each_kind(Check check) {
  std::uint32_t seed = 140;
  for (const Kind kind : every_kind) {
    // All metrics come up with each kind of codes.
    ++seed;
    UpkeepWorld w(dim, 8, seed, every_metric[seed % 3], kind);
    check(w);
  }
}

} // namespace

SLOW_TEST(repair_keeps_recall_in_every_kind) {
  for (const double share : {0.2, 0.6}) {
    for_each_kind([share](UpkeepWorld& w) {
      w.add(0, 700);
      const double before = w.recall_now();
      CHECK(before > 0.85);
      w.remove_share(share);
      CHECK(w.index->repair().changed > 0);
      CHECK_EQ(links_to_dead(*w.index), std::size_t{0});
      w.oracle.expect_equal(*w.index);
      w.expect_codes();
      CHECK(w.recall_now() > before - 0.03);
    });
  }
}

SLOW_TEST(compact_and_relocate_move_rows_originals_and_codes_together) {
  for_each_kind([](UpkeepWorld& w) {
    w.add(0, 700);
    const double before = w.recall_now();
    w.remove_share(0.5);
    const std::size_t dead = w.index->tombstones();
    CHECK_EQ(w.index->compact().freed, dead);
    w.remove_share(0.1); // tombstones are moved as well
    CHECK(w.index->relocate().changed > 100);
    CHECK_EQ(w.index->stats().slots, w.index->size() + w.index->tombstones());
    w.oracle.expect_equal(*w.index);
    w.expect_codes();
    w.add(10000, 300);
    w.oracle.expect_equal(*w.index);
    w.expect_codes();
    CHECK(w.recall_now() > before - 0.03);
  });
}

SLOW_TEST(long_churn_loses_nothing_in_any_kind) {
  std::uint32_t seed = 160;
  for (const Kind kind : every_kind) {
    ++seed;
    UpkeepWorld w(dim, 2, seed, every_metric[seed % 3], kind);
    w.add(0, 300);
    for (int round = 1; round <= 15; ++round) {
      w.remove_share(0.4);
      if (round % 2 == 0) w.index->compact();
      if (round % 5 == 0) w.index->relocate();
      w.add(1000 * round, 120);
      w.oracle.expect_equal(*w.index);
      w.expect_codes();
    }
    CHECK_EQ(w.index->stats().codes_trained_on != 0, kind.codes != hnsw::Codes::none);
  }
}

TEST(results_have_true_distances_in_every_kind) {
  for_each_kind([](UpkeepWorld& w) {
    w.add(0, 600);
    w.add(0, 100); // replaces
    for (int q = 0; q < 20; ++q) {
      const Vector query = random_vector(w.random, dim);
      const Found found = search(*w.index, query.data(), 10, 100);
      CHECK_EQ(found.ids.size(), std::size_t{10});
      CHECK(std::is_sorted(found.distances.begin(), found.distances.end()));
      for (std::size_t i = 0; i < found.ids.size(); ++i) {
        const double d =
            true_distance(w.index->config().metric, query.data(), w.oracle.items[found.ids[i]].data(), dim);
        CHECK(std::abs(d - found.distances[i]) < 1e-5 * (1 + std::abs(d)) * dim);
      }
    }
  });
}
