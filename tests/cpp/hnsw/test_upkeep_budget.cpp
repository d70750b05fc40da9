// Upkeep step by step: whatever happens between two steps, everything stays whole, and the round ends as one
// that was not interrupted.
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <set>

#include "upkeep_world.h"

using namespace embedcore;
using namespace embedcore::test;
using hnsw::Budget;
using hnsw::Report;
using hnsw::Upkeep;

namespace {

constexpr std::uint32_t dim = 8;
using Verb = Report (Index::*)(const Budget&);

Budget one_step() {
  return {[] { return true; }};
}

struct World : UpkeepWorld {
  explicit World(std::uint32_t seed, std::uint32_t m = 4) : UpkeepWorld(::dim, m, seed) {}

  // Nothing is lost, nothing comes twice, whatever a round is in the middle of.
  void expect_whole() {
    oracle.expect_equal(*index);
    const Vector query = random_vector(random, dim);
    const Found found = search(*index, query.data(), oracle.items.size() + 5, 100000);
    const std::set<std::int64_t> unique(found.ids.begin(), found.ids.end());
    CHECK_EQ(found.ids.size(), oracle.items.size());
    CHECK_EQ(unique.size(), oracle.items.size());
  }
  void remove_some(std::size_t n) {
    std::vector<std::int64_t> gone;
    for (std::size_t i = 0; i < n && !oracle.items.empty(); ++i) {
      auto at = oracle.items.begin();
      std::advance(at, random() % oracle.items.size());
      gone.push_back(at->first);
      oracle.items.erase(at);
    }
    CHECK_EQ(index->remove(gone), gone.size());
  }
  [[nodiscard]] bool under_way() const {
    return hnsw::IndexTestPeer::impl(*index).upkeep.verb != hnsw::Verb::none;
  }
  [[nodiscard]] hnsw::Phase phase() const { return hnsw::IndexTestPeer::impl(*index).upkeep.phase; }
};

// Every bit of the graph.
std::vector<std::uint64_t> graph_of(Index& index) {
  const Index::Impl& x = hnsw::IndexTestPeer::impl(index);
  std::vector<std::uint64_t> all{x.entry_word.load(), x.storage.end()};
  for (hnsw::Slot slot = 0; slot < x.storage.end(); ++slot) {
    all.push_back(static_cast<std::uint64_t>(x.storage.state(slot)));
    if (!x.attached(slot)) continue;
    all.push_back(static_cast<std::uint64_t>(x.storage.node(slot).id));
    all.push_back(x.storage.parent(slot));
    for (std::uint32_t level = 0; level <= x.storage.node(slot).level; ++level) {
      const hnsw::Links links = x.storage.links(slot, level);
      for (std::size_t i = 0; i < links.count; ++i) all.push_back(links.word(i));
    }
  }
  return all;
}

Report to_the_end(Index& index, Verb verb, std::size_t& calls) {
  Report sum;
  for (calls = 0; calls < 10000 && !sum.done; ++calls) {
    const Report part = (index.*verb)(one_step());
    sum.examined += part.examined;
    sum.changed += part.changed;
    sum.freed += part.freed;
    sum.done = part.done;
  }
  return sum;
}

} // namespace

TEST(many_small_calls_do_what_one_call_does) {
  World whole(201);
  World pieces(201);
  for (World* w : {&whole, &pieces}) {
    w->add(0, 500);
    w->remove_share(0.4);
  }
  for (const Verb verb : {&Index::repair, &Index::compact, &Index::relocate}) {
    const Report at_once = (*whole.index.*verb)({});
    std::size_t calls = 0;
    const Report stepped = to_the_end(*pieces.index, verb, calls);
    CHECK(at_once.done && stepped.done);
    CHECK(calls > 2 || verb == &Index::compact); // repair has left it little
    CHECK_EQ(at_once.examined, stepped.examined);
    CHECK_EQ(at_once.changed, stepped.changed);
    CHECK_EQ(at_once.freed, stepped.freed);
    CHECK(graph_of(*whole.index) == graph_of(*pieces.index));
  }
  CHECK_EQ(pieces.index->stats().slots, pieces.index->size());
  pieces.expect_whole();
  CHECK((*pieces.index).compact(one_step()).done); // nothing to do
}

TEST(a_round_ends_whatever_is_written_and_asked_for_between_its_steps) {
  for (std::uint32_t seed = 202; seed < 206; ++seed) {
    World w(seed, seed % 2 == 0 ? 2 : 6);
    w.add(0, 150);
    std::int64_t fresh = 10000;
    std::set<hnsw::Phase> met;
    for (int step = 0; step < 400; ++step) {
      const auto draw = w.random() % 8;
      if (draw == 0) w.add(fresh += 100, 3);
      if (draw == 1) w.add(0, 1 + w.random() % 4); // replaces
      if (draw == 2) w.remove_some(4);
      if (draw == 3) w.index->repair(one_step());
      if (draw == 4) w.index->relocate(one_step());
      if (draw >= 5) w.index->compact(one_step());
      if (w.under_way()) met.insert(w.phase());
      w.expect_whole();
    }
    CHECK(met.size() >= 4); // to move nodes takes one step at this size
    CHECK(w.index->compact().done);
    CHECK(w.index->relocate().done);
    CHECK_EQ(w.index->tombstones(), std::size_t{0});
    CHECK_EQ(w.index->stats().slots, w.index->size());
    CHECK_EQ(links_to_dead(*w.index), std::size_t{0});
    w.expect_whole();
  }
}

TEST(an_index_that_loses_everything_may_be_filled_again_between_any_two_steps) {
  for (int when = 0; when < 24; ++when) {
    World w(210);
    w.add(0, 60);
    w.remove_share(1.0);
    for (int step = 0; step < 24; ++step) {
      if (step == when) w.add(1000, 5);
      w.index->compact(one_step());
      w.expect_whole();
    }
    CHECK(w.index->compact().done);
    CHECK_EQ(w.index->tombstones(), std::size_t{0});
    w.add(2000, 60);
    w.expect_whole();
    CHECK(w.recall_now() > 0.95);
  }
}

TEST(what_is_being_moved_may_be_replaced_and_removed) {
  World w(211);
  w.add(0, 400);
  w.remove_some(200);
  w.index->compact();
  while (w.phase() != hnsw::Phase::sweep || !w.under_way()) w.index->relocate(one_step());
  CHECK(hnsw::IndexTestPeer::impl(*w.index).moved.load() > 50);
  CHECK(w.recall_now() > 0.95); // links lead to the old places still
  w.expect_whole();
  w.remove_some(40);
  w.expect_whole();
  std::int64_t some = 0;
  for (const auto& [id, v] : std::map(w.oracle.items)) {
    if (++some % 3 == 0) w.add(id, 1);
  }
  w.expect_whole();
  CHECK(w.index->relocate().done);
  CHECK_EQ(hnsw::IndexTestPeer::impl(*w.index).moved.load(), std::size_t{0});
  w.expect_whole();
  w.index->compact();
  w.index->relocate();
  CHECK_EQ(w.index->stats().slots, w.index->size());
  w.expect_whole();
}

TEST(a_snapshot_taken_between_any_two_steps_holds_everything) {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("embedcore-mid-" + std::to_string(::getpid()))).string();
  World w(212);
  w.add(0, 120);
  std::set<std::pair<hnsw::Verb, hnsw::Phase>> met;
  const auto& upkeep = hnsw::IndexTestPeer::impl(*w.index).upkeep;
  for (const Verb verb : {&Index::repair, &Index::compact, &Index::relocate}) {
    w.remove_some(30);
    for (bool done = false; !done;) {
      done = (*w.index.*verb)(one_step()).done;
      if (w.under_way()) met.emplace(upkeep.verb, upkeep.phase);
      CHECK(w.index->save(path).ok());
      const auto loaded = Index::load(path);
      CHECK(loaded.ok());
      if (!loaded.ok()) return;
      w.oracle.expect_equal(*loaded.value());
      CHECK_EQ(loaded.value()->tombstones(), w.index->tombstones());
      CHECK(loaded.value()->compact().done);
      CHECK(loaded.value()->relocate().done);
      CHECK_EQ(loaded.value()->stats().slots, w.oracle.items.size());
      w.oracle.expect_equal(*loaded.value());
    }
  }
  CHECK(met.size() >= 8);
  std::filesystem::remove(path);
}

TEST(several_threads_share_one_round) {
  World w(213, 6);
  w.add(0, 2000);
  w.remove_share(0.5);
  const std::size_t dead = w.index->tombstones();
  const Report compacted = w.index->compact({{}, 4});
  CHECK(compacted.done);
  CHECK_EQ(compacted.freed, dead);
  CHECK_EQ(compacted.examined, w.index->size());
  const Report moved = w.index->relocate({{}, 3});
  CHECK(moved.done);
  CHECK_EQ(w.index->stats().slots, w.index->size());
  w.expect_whole();
  CHECK(w.recall_now() > 0.95);
}

TEST(a_budget_of_time_is_kept_and_one_of_none_makes_progress) {
  World w(214);
  w.add(0, 300);
  w.remove_share(0.5);
  int calls = 0;
  while (!w.index->compact(Budget::seconds(0)).done && calls < 1000) ++calls;
  CHECK(calls > 2 && calls < 1000);
  CHECK_EQ(w.index->tombstones(), std::size_t{0});
  std::atomic<int> polled{0};
  w.remove_share(0.5);
  // The clock stands still for five polls.
  CHECK(!w.index->compact({[&] { return polled.fetch_add(1) >= 5; }}).done);
  CHECK_EQ(polled.load(), 6);
  CHECK(w.index->compact(Budget::seconds(60)).done);
  w.expect_whole();
}

TEST(young_tombstones_are_left_and_said_to_be) {
  World w(215);
  w.add(0, 200);
  struct Meddler : hnsw::IdFilter {
    explicit Meddler(Index& meddled) : index(meddled) {}
    [[nodiscard]] bool allows(std::int64_t id) const override {
      if (id != 5) return true;
      const std::vector<std::int64_t> gone{6};
      CHECK_EQ(index.remove(gone), std::size_t{1});
      CHECK(!index.compact().done);
      CHECK_EQ(index.tombstones(), std::size_t{1});
      return true;
    }
    Index& index;
  };
  const Meddler meddler(*w.index);
  const Vector query = random_vector(w.random, dim);
  search(*w.index, query.data(), 200, 200, &meddler);
  CHECK(w.index->compact().done);
  CHECK_EQ(w.index->tombstones(), std::size_t{0});
}

TEST(no_slot_is_free_while_a_search_that_may_stand_on_it_goes_on) {
  World w(217);
  w.add(0, 200);
  w.remove_some(80);
  Index::Impl& x = hnsw::IndexTestPeer::impl(*w.index);
  while (!w.under_way() || w.phase() != hnsw::Phase::retire) w.index->compact(one_step());
  {
    const auto search = x.epochs.pin();
    CHECK(w.index->compact().done);
    CHECK_EQ(x.storage.free_count(), std::size_t{0});
    w.add(1000, 20); // takes new slots
    CHECK_EQ(w.index->stats().slots, std::size_t{220});
  }
  w.add(2000, 1);
  CHECK_EQ(x.storage.free_count(), std::size_t{79});
  w.expect_whole();
}

TEST(an_item_that_is_replaced_while_a_search_goes_on_is_not_lost_to_it) {
  World w(216);
  w.add(0, 200);
  struct Meddler : hnsw::IdFilter {
    Meddler(Index& meddled, const Vector& v) : index(meddled), vector(v) {}
    [[nodiscard]] bool allows(std::int64_t) const override {
      if (asked++ != 0) return true;
      for (std::int64_t id = 0; id < 200; ++id) {
        const std::vector<std::int64_t> one{id};
        CHECK(index.add(one, vector.data(), 1).ok());
      }
      return true;
    }
    Index& index;
    const Vector& vector;
    mutable int asked = 0;
  };
  const Vector query = random_vector(w.random, dim);
  const Meddler meddler(*w.index, query);
  CHECK_EQ(search(*w.index, query.data(), 200, 300, &meddler).ids.size(), std::size_t{200});
  CHECK(w.index->check().empty());
}
