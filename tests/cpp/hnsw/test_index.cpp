// The index from outside: what goes in comes out, and what is refused changes nothing.
#include "hnsw/index.h"

#include <limits>

#include "hnsw/filter.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 16;

// Every bit of the graph: slots, links, tree, entry.
std::vector<std::uint64_t> graph_of(Index& index) {
  const Index::Impl& x = hnsw::IndexTestPeer::impl(index);
  std::vector<std::uint64_t> all{x.entry_word.load()};
  for (hnsw::Slot slot = 0; slot < x.storage.end(); ++slot) {
    all.push_back(static_cast<std::uint64_t>(x.storage.node(slot).id));
    all.push_back(x.storage.parent(slot));
    for (std::uint32_t level = 0; level <= x.storage.node(slot).level; ++level) {
      const hnsw::Links links = x.storage.links(slot, level);
      for (std::size_t i = 0; i < links.count; ++i) all.push_back(links.load(i));
    }
  }
  return all;
}

} // namespace

TEST(results_are_nearest_first_with_true_distances) {
  for (const Metric metric : {Metric::cosine, Metric::inner_product, Metric::l2}) {
    std::mt19937 random(11);
    const auto index = make_index(dim, metric);
    const auto rows = random_rows(random, 1000, dim);
    CHECK(index->add(numbered(0, 1000), rows.data(), 1).ok());
    Oracle oracle(metric, dim);
    for (std::size_t i = 0; i < 1000; ++i) {
      oracle.items[static_cast<std::int64_t>(i)] = Vector(&rows[i * dim], &rows[i * dim] + dim);
    }
    oracle.expect_equal(*index);
    double total = 0;
    for (int q = 0; q < 50; ++q) {
      const Vector query = random_vector(random, dim);
      const Found found = search(*index, query.data(), 10, 100);
      CHECK_EQ(found.ids.size(), std::size_t{10});
      CHECK(std::is_sorted(found.distances.begin(), found.distances.end()));
      for (std::size_t i = 0; i < found.ids.size(); ++i) {
        const double d = true_distance(metric, query.data(), oracle.items[found.ids[i]].data(), dim);
        CHECK(std::abs(d - found.distances[i]) < 1e-4);
      }
      total += recall(found.ids, oracle.nearest(query.data(), 10));
    }
    CHECK(total / 50 > 0.97);
  }
}

TEST(one_thread_builds_the_same_graph_every_time_and_the_seed_changes_it) {
  std::mt19937 random(12);
  const auto rows = random_rows(random, 400, dim);
  const auto build = [&](std::uint64_t seed) {
    const auto index = make_index(dim, Metric::cosine, 4, seed);
    CHECK(index->add(numbered(0, 400), rows.data(), 1).ok());
    CHECK_EQ(index->remove(numbered(10, 60)), std::size_t{60});
    index->compact();
    CHECK(index->add(numbered(500, 50), rows.data(), 1).ok());
    return graph_of(*index);
  };
  CHECK(build(1) == build(1));
  CHECK(build(1) != build(2));
}

TEST(a_graph_built_by_several_threads_is_whole) {
  std::mt19937 random(13);
  const auto rows = random_rows(random, 2000, dim);
  const auto index = make_index(dim, Metric::l2);
  CHECK(index->add(numbered(0, 2000), rows.data(), 4).ok());
  Oracle oracle(Metric::l2, dim);
  for (std::size_t i = 0; i < 2000; ++i) {
    oracle.items[static_cast<std::int64_t>(i)] = Vector(&rows[i * dim], &rows[i * dim] + dim);
  }
  oracle.expect_equal(*index);
  double total = 0;
  for (int q = 0; q < 30; ++q) {
    const Vector query = random_vector(random, dim);
    total += recall(search(*index, query.data(), 10, 100).ids, oracle.nearest(query.data(), 10));
  }
  CHECK(total / 30 > 0.95);
}

TEST(an_item_that_is_replaced_is_found_at_its_new_place_only) {
  const auto index = make_index(2, Metric::l2, 4);
  const std::vector<std::int64_t> id{7};
  const Vector here{0, 0};
  const Vector there{9, 9};
  CHECK(index->add(id, here.data()).ok());
  CHECK(index->add(id, there.data()).ok());
  CHECK_EQ(index->size(), std::size_t{1});
  CHECK_EQ(index->tombstones(), std::size_t{1});
  const Found found = search(*index, here.data(), 5, 50);
  CHECK((found.ids == id));
  CHECK_EQ(found.distances[0], 162.0f);
}

TEST(removed_items_are_not_returned_and_can_come_back) {
  std::mt19937 random(14);
  const auto index = make_index(dim);
  const auto rows = random_rows(random, 300, dim);
  CHECK(index->add(numbered(0, 300), rows.data()).ok());
  const std::vector<std::int64_t> some{3, 4, 5, 777, -1, 3};
  CHECK_EQ(index->remove(some), std::size_t{3});
  CHECK(!index->contains(4));
  for (const std::int64_t id : search(*index, &rows[4 * dim], 300, 300).ids)
    CHECK(id != 3 && id != 4 && id != 5);
  CHECK_EQ(search(*index, &rows[4 * dim], 300, 300).ids.size(), std::size_t{297});
  const std::vector<std::int64_t> back{4};
  CHECK(index->add(back, &rows[4 * dim]).ok());
  CHECK_EQ(search(*index, &rows[4 * dim], 1, 10).ids[0], 4);
  CHECK(index->check().empty());
}

TEST(a_search_finds_what_lives_behind_many_tombstones) {
  std::mt19937 random(15);
  const auto index = make_index(dim);
  const auto rows = random_rows(random, 1000, dim);
  CHECK(index->add(numbered(0, 1000), rows.data(), 1).ok());
  CHECK_EQ(index->remove(numbered(0, 995)), std::size_t{995});
  CHECK_EQ(search(*index, rows.data(), 10, 10).ids.size(), std::size_t{5});
}

TEST(a_crowd_of_equal_vectors_stays_whole) {
  const auto index = make_index(4, Metric::cosine, 4);
  const std::vector<float> rows(4 * 500, 0.5f);
  CHECK(index->add(numbered(0, 500), rows.data(), 1).ok());
  const Vector other{1, -1, 1, -1};
  const std::vector<std::int64_t> id{1000};
  CHECK(index->add(id, other.data()).ok());
  CHECK(index->check().empty());
  CHECK_EQ(search(*index, other.data(), 1, 1000).ids[0], 1000);
  CHECK_EQ(search(*index, rows.data(), 501, 501).ids.size(), std::size_t{501});
}

TEST(refusals_name_the_fault_and_change_nothing) {
  const auto index = make_index(2);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [&](std::vector<std::int64_t> ids, Vector rows, const std::string& part) {
    const Status status = index->add(ids, rows.data());
    CHECK(status.error().code == Code::invalid_argument);
    if (status.error().message.find(part) == std::string::npos)
      fail(__FILE__, __LINE__, status.error().message);
    CHECK_EQ(index->size(), std::size_t{0});
  };
  refused({1, 2, 1}, {1, 1, 1, 1, 1, 1}, "id 1 comes more than once");
  refused({1, -2}, {1, 1, 1, 1}, "id -2 is negative");
  refused({1, 2}, {1, 1, 1, nan}, "vector 1 holds NaN at position 1");
  refused({1, 2}, {1, 1, -std::numeric_limits<float>::infinity(), 1}, "vector 1 holds an infinite value");
  refused({1, 2}, {1, 1, 0, 0}, "vector 1 is zero");
  refused({1}, {3e19f, 3e19f}, "too long");
}

TEST(tiny_and_long_vectors_have_directions) {
  const auto index = make_index(2);
  const std::vector<std::int64_t> ids{1, 2};
  const Vector rows{1e-25f, 1e-25f, -8e17f, 8e17f};
  CHECK(index->add(ids, rows.data()).ok());
  const Found found = search(*index, rows.data(), 2, 10);
  CHECK_EQ(found.ids[0], 1);
  CHECK(std::abs(found.distances[0]) < 1e-6f);
  CHECK(std::abs(found.distances[1] - 1.0f) < 1e-6f);
}

TEST(add_can_be_stopped_and_keeps_what_it_added) {
  std::mt19937 random(16);
  const auto index = make_index(dim);
  const auto rows = random_rows(random, 100, dim);
  const Status status =
      index->add(numbered(0, 100), rows.data(), 1, [](std::size_t done) { return done < 30; });
  CHECK(status.error().code == Code::cancelled);
  CHECK_EQ(index->size(), std::size_t{30});
  CHECK(index->check().empty());
}

TEST(filters_are_exact_at_every_selectivity) {
  std::mt19937 random(17);
  const auto index = make_index(dim, Metric::l2);
  const auto rows = random_rows(random, 2000, dim);
  CHECK(index->add(numbered(0, 2000), rows.data(), 2).ok());
  struct Unlisted : hnsw::IdFilter { // as a callback would be: nothing known but the answer
    explicit Unlisted(const hnsw::IdSet& allowed) : set(allowed) {}
    [[nodiscard]] bool allows(std::int64_t id) const override { return set.allows(id); }
    const hnsw::IdSet& set;
  };
  for (const std::size_t allowed : {1u, 5u, 100u, 1000u, 1999u}) {
    std::vector<std::int64_t> ids = numbered(0, 2000);
    std::shuffle(ids.begin(), ids.end(), random);
    ids.resize(allowed);
    const hnsw::IdSet set(ids);
    const Unlisted unlisted(set);
    Oracle oracle(Metric::l2, dim);
    for (const std::int64_t id : ids) oracle.items[id] = Vector(&rows[id * dim], &rows[id * dim] + dim);
    double listed_recall = 0;
    double unlisted_recall = 0;
    for (int q = 0; q < 10; ++q) {
      const Vector query = random_vector(random, dim);
      const auto truth = oracle.nearest(query.data(), 10);
      for (const hnsw::IdFilter* filter :
           {static_cast<const hnsw::IdFilter*>(&set), static_cast<const hnsw::IdFilter*>(&unlisted)}) {
        const Found found = search(*index, query.data(), 10, 100, filter);
        CHECK_EQ(found.ids.size(), std::min<std::size_t>(10, allowed));
        for (const std::int64_t id : found.ids) CHECK(set.allows(id));
        (filter == &set ? listed_recall : unlisted_recall) += recall(found.ids, truth) / 10;
      }
    }
    CHECK(listed_recall > 0.95);
    CHECK(unlisted_recall > 0.95);
  }
}

TEST(range_search_returns_all_and_only_what_is_within) {
  std::mt19937 random(18);
  const auto index = make_index(dim, Metric::l2);
  const auto rows = random_rows(random, 1000, dim);
  CHECK(index->add(numbered(0, 1000), rows.data(), 2).ok());
  const Vector query(dim, 0.0f);
  std::vector<std::int64_t> ids;
  std::vector<float> distances;
  for (const float radius : {1.0f, 10.0f, 16.0f, 1000.0f}) {
    index->range_search(query.data(), radius, 50, nullptr, ids, distances);
    std::size_t within = 0;
    for (std::size_t i = 0; i < 1000; ++i) {
      within += true_distance(Metric::l2, query.data(), &rows[i * dim], dim) <= radius ? 1u : 0u;
    }
    CHECK(std::all_of(distances.begin(), distances.end(), [&](float d) { return d <= radius; }));
    CHECK(std::is_sorted(distances.begin(), distances.end()));
    CHECK(static_cast<double>(ids.size()) >= 0.98 * static_cast<double>(within));
  }
  CHECK_EQ(ids.size(), std::size_t{1000});
}

TEST(scores_and_get_answer_for_given_ids) {
  std::mt19937 random(19);
  const auto index = make_index(dim);
  const auto rows = random_rows(random, 20, dim);
  CHECK(index->add(numbered(0, 20), rows.data()).ok());
  const std::vector<std::int64_t> ids{4, 99, 4, 0};
  Vector distances(4);
  index->scores(&rows[4 * dim], ids, distances.data());
  CHECK(std::abs(distances[0]) < 1e-6f);
  CHECK(std::isnan(distances[1]));
  CHECK_EQ(distances[2], distances[0]);
  std::vector<float> out(4 * dim);
  const Status status = index->get(ids, out.data());
  CHECK(status.error().code == Code::not_found);
  CHECK(status.error().message.find("id 99") != std::string::npos);
}

TEST(an_empty_index_answers_everything) {
  const auto index = make_index(3);
  const Vector query{1, 2, 3};
  CHECK(search(*index, query.data(), 5, 10).ids.empty());
  CHECK(index->ids().empty());
  CHECK(index->check().empty());
  CHECK(index->add({}, nullptr).ok());
  CHECK_EQ(index->remove({}), std::size_t{0});
  CHECK_EQ(index->compact().freed, std::size_t{0});
  CHECK_EQ(index->relocate().changed, std::size_t{0});
}

TEST(configurations_out_of_range_are_refused) {
  const auto refused = [](hnsw::Config config) {
    const auto result = Index::create(config);
    return !result.ok() && result.error().code == Code::invalid_argument;
  };
  hnsw::Config good;
  good.dim = 4;
  CHECK(Index::create(good).ok());
  for (const std::uint32_t bad_dim : {0u, 65536u}) {
    hnsw::Config config = good;
    config.dim = bad_dim;
    CHECK(refused(config));
  }
  for (const std::uint32_t bad_m : {0u, 1u, 513u}) {
    hnsw::Config config = good;
    config.m = bad_m;
    CHECK(refused(config));
  }
  hnsw::Config config = good;
  config.ef_construction = 0;
  CHECK(refused(config));
}
