// check() fires: each kind of damage is planted by hand and must be named.
#include "world.h"

using namespace embedcore;
using namespace embedcore::test;
using hnsw::no_slot;
using hnsw::Slot;

namespace {

struct World {
  World() : index(make_index(4)), x(hnsw::IndexTestPeer::impl(*index)) {
    std::mt19937 random(31);
    const auto rows = random_rows(random, 200, 4);
    CHECK(index->add(numbered(0, 200), rows.data(), 1).ok());
    CHECK(index->check().empty());
  }
  // Exactly these problems, by the start of their lines.
  void expect(const std::vector<std::string>& starts) const {
    const auto problems = index->check();
    for (const std::string& problem : problems) {
      const bool known = std::any_of(starts.begin(), starts.end(),
                                     [&](const std::string& start) { return problem.rfind(start, 0) == 0; });
      if (!known) fail(__FILE__, __LINE__, "not expected: " + problem);
    }
    for (const std::string& start : starts) {
      const bool seen = std::any_of(problems.begin(), problems.end(),
                                    [&](const std::string& problem) { return problem.rfind(start, 0) == 0; });
      if (!seen) fail(__FILE__, __LINE__, "not reported: " + start);
    }
  }
  // A place of slot's list that the tree does not need.
  std::size_t spare(Slot slot) const {
    const hnsw::Links links = x.storage.links(slot, 0);
    for (std::size_t i = 0; i < links.count; ++i) {
      if (links.load(i) != no_slot && !hnsw::is_protected(links.word(i))) return i;
    }
    return 0;
  }
  std::shared_ptr<Index> index;
  Index::Impl& x;
};

} // namespace

TEST(check_reports_a_dangling_link) {
  World w;
  w.x.storage.links(5, 0).store(w.spare(5), 100000);
  w.expect({"dangling link on level 0: id 5"});
}

TEST(check_reports_a_link_to_a_freed_slot) {
  World w;
  CHECK_EQ(w.index->remove(numbered(50, 10)), std::size_t{10});
  w.index->compact();
  w.x.storage.links(5, 0).store(w.spare(5), 55);
  w.expect({"dangling link on level 0: id 5"});
}

TEST(check_reports_duplicate_links_and_links_to_itself) {
  World w;
  const hnsw::Links links = w.x.storage.links(7, 0);
  const std::size_t at = w.spare(7);
  const std::size_t other = at == 0 ? 1 : 0;
  links.store(at, links.load(other));
  w.expect({"duplicate link on level 0: id 7"});
  World v;
  v.x.storage.links(7, 0).store(v.spare(7), 7);
  v.expect({"link to itself on level 0: id 7"});
}

TEST(check_reports_an_unreachable_live_node) {
  World w;
  Slot target = 0; // one that only level 0 leads to
  while (w.x.storage.node(target).level != 0 || w.x.storage.parent(target) == no_slot) ++target;
  for (Slot slot = 0; slot < 200; ++slot) {
    const hnsw::Links links = w.x.storage.links(slot, 0);
    if (const std::size_t at = links.find(target); at != links.count) links.store(at, no_slot);
  }
  w.expect({"unreachable live node: id " + std::to_string(target), "parent does not link to its child",
            "child does not link to its parent"});
}

TEST(check_reports_an_id_table_that_disagrees_with_the_slots) {
  World w;
  w.x.table->erase(9);
  w.expect({"live but not in the id table: id 9", "ids in the table are counted as 199 but are 200"});
  World v;
  v.x.storage.set_state(9, hnsw::State::tombstone);
  v.expect({"id table leads to a slot that is not live: id 9", "ids in the table",
            "live items are counted as 200", "tombstones are counted as 0"});
}

TEST(check_reports_a_wrong_norm) {
  World w;
  kept_floats(w.x.storage, 3)[0] += 1.0f;
  w.expect({"norm does not belong to the vector: id 3"});
}

TEST(check_finds_nothing_wrong_with_vectors_so_short_that_their_inverse_norm_is_infinite) {
  for (const Kind kind : every_kind) {
    for (const Metric metric : {Metric::inner_product, Metric::l2}) {
      const auto index = make_index(2, metric, 4, 0, kind);
      const Vector rows{1e-44f, -2e-43f, 3e-40f, 1e-45f, 0, 0, 1, -1};
      CHECK(index->add(numbered(0, 4), rows.data(), 1).ok());
      for (const std::string& problem : index->check()) fail(__FILE__, __LINE__, problem);
    }
  }
}

TEST(check_reports_a_wrong_entry) {
  World w;
  const hnsw::Entry good = w.x.entry();
  w.x.set_entry({});
  w.expect({"no entry point", "unreachable live node"});
  w.x.set_entry({good.slot, good.level + 1});
  w.expect({"entry point has level"});
}

TEST(check_reports_a_broken_tree) {
  World w;
  Slot child = 0;
  while (w.x.storage.parent(child) == no_slot) ++child;
  const Slot parent = w.x.storage.parent(child);
  w.x.storage.set_parent(child, no_slot);
  w.expect({"protected link that is none of the tree's"});
  for (const auto& [from, to] : {std::pair{parent, child}, std::pair{child, parent}}) {
    const hnsw::Links links = w.x.storage.links(from, 0);
    links.store(links.find(to), to);
  }
  w.expect({"the tree has 2 roots"});
}

TEST(check_reports_marks_that_are_not_the_trees_and_links_of_the_tree_without_one) {
  World w;
  const hnsw::Links links = w.x.storage.links(11, 0);
  const std::size_t at = w.spare(11);
  links.store(at, hnsw::protected_link(links.load(at)));
  w.expect({"protected link that is none of the tree's on level 0: id 11"});
  World v;
  const Slot child = v.x.storage.parent(12) == no_slot ? 13 : 12;
  const hnsw::Links own = v.x.storage.links(child, 0);
  const std::size_t parent = own.find(v.x.storage.parent(child));
  own.store(parent, own.load(parent));
  v.expect({"child does not link to its parent: id " + std::to_string(child)});
}
