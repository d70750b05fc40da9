#include "hnsw/filter.h"

#include <limits>
#include <random>
#include <set>

#include "check.h"

using embedcore::hnsw::IdSet;

TEST(an_id_set_agrees_with_a_set_dense_and_sparse) {
  std::mt19937_64 random(4);
  for (const std::uint64_t range : {50ull, 5000ull, 1ull << 40, 1ull << 62}) {
    std::vector<std::int64_t> ids;
    for (int i = 0; i < 1000; ++i) ids.push_back(static_cast<std::int64_t>(random() % range));
    ids.push_back(-5); // ignored
    const IdSet set(ids);
    std::set<std::int64_t> expected(ids.begin(), ids.end());
    expected.erase(-5);
    CHECK_EQ(set.size(), expected.size());
    CHECK(std::vector<std::int64_t>(expected.begin(), expected.end()) ==
          std::vector<std::int64_t>(set.listed().begin(), set.listed().end()));
    for (int i = 0; i < 5000; ++i) {
      const auto id = static_cast<std::int64_t>(random() % (range + 10));
      CHECK_EQ(set.allows(id), expected.contains(id));
    }
    CHECK(!set.allows(-5));
    CHECK(!set.allows(-1));
  }
}

TEST(an_empty_id_set_and_the_largest_ids) {
  CHECK(!IdSet({}).allows(0));
  const std::int64_t largest = std::numeric_limits<std::int64_t>::max();
  const std::vector<std::int64_t> ends{0, largest};
  const IdSet set(ends);
  CHECK(set.allows(0));
  CHECK(set.allows(largest));
  CHECK(!set.allows(largest - 1));
}
