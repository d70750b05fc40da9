// The functions on lists of links over all interleavings of small cases.
#include "hnsw/link_list.h"

#include <algorithm>
#include <memory>

#include "check.h"
#include "support/interleave.h"

using namespace embedcore::hnsw;
using embedcore::test::Atomic;
using embedcore::test::Model;

namespace {

struct ModelList {
  explicit ModelList(const std::vector<Word>& words) : count(words.size()) {
    for (const Word word : words) cells.push_back(std::make_unique<Atomic<Word>>(word));
  }
  [[nodiscard]] Word word(std::size_t i) const { return cells[i]->load(); }
  bool swap(std::size_t i, Word expected, Word desired) const {
    return cells[i]->compare_exchange_strong(expected, desired);
  }
  [[nodiscard]] std::vector<Word> words() const {
    std::vector<Word> all;
    for (const auto& cell : cells) all.push_back(cell->peek());
    return all;
  }
  [[nodiscard]] std::size_t links_to(Slot slot) const {
    const auto all = words();
    return static_cast<std::size_t>(
        std::count_if(all.begin(), all.end(), [slot](Word w) { return target_of(w) == slot; }));
  }
  [[nodiscard]] bool holds(Word word) const {
    const auto all = words();
    return std::find(all.begin(), all.end(), word) != all.end();
  }
  // Nothing twice.
  [[nodiscard]] std::string twice() const {
    for (const Word word : words()) {
      if (word != empty_word && links_to(target_of(word)) > 1)
        return "twice: " + std::to_string(target_of(word));
    }
    return {};
  }

  std::size_t count;
  std::vector<std::unique_ptr<Atomic<Word>>> cells;
};

constexpr Word none = empty_word;

// Drops the link as pruning does: what it saw, or nothing.
Model::Thread drops(const ModelList& list, std::size_t place) {
  return [&list, place] {
    const Word word = list.word(place);
    if (word == none || is_protected(word)) return std::uint64_t{0};
    return std::uint64_t{replace_link(list, place, word, none)};
  };
}
Model::Thread adds(const ModelList& list, Slot slot) {
  return [&list, slot] { return static_cast<std::uint64_t>(add_link(list, slot)); };
}
Model::Thread protects(const ModelList& list, Slot slot) {
  return [&list, slot] { return static_cast<std::uint64_t>(protect_link(list, slot)); };
}
Model::Thread redirects(const ModelList& list, std::size_t place, Word expected, Slot slot) {
  return [=, &list] { return std::uint64_t{redirect_link(list, place, expected, slot)}; };
}

void expect_none_failed(const Model::Explored& found) {
  for (const std::string& what : found.failures) embedcore::test::fail(__FILE__, __LINE__, what);
  CHECK_EQ(found.deadlocks, std::size_t{0});
  CHECK(found.states > 10);
}

} // namespace

TEST(two_that_add_the_same_link_leave_one) {
  Model model;
  const ModelList list({none, 5, none});
  expect_none_failed(model.explore({adds(list, 7), adds(list, 7), adds(list, 8)}, [&](const Model::Outcome&) {
    if (list.links_to(7) > 1) return list.twice();
    return std::string(list.links_to(5) == 1 && list.links_to(8) <= 1 ? "" : "an unrelated link was lost");
  }));
}

// The places differ because one comes free after the first of them has looked for one.
TEST(two_that_add_the_same_link_in_two_places_leave_one) {
  Model model;
  const ModelList list({5, none});
  const auto found =
      model.explore({adds(list, 7), adds(list, 7), drops(list, 0)}, [&](const Model::Outcome&) {
        return list.links_to(7) == 0 ? std::string("both are lost") : list.twice();
      });
  expect_none_failed(found);
}

TEST(of_two_that_want_the_last_place_one_gets_it) {
  Model model;
  const ModelList list({1, none, 2});
  const auto found = model.explore({adds(list, 7), adds(list, 8)}, [&](const Model::Outcome& o) {
    const std::size_t in = list.links_to(7) + list.links_to(8);
    const auto full = std::count(o.results.begin(), o.results.end(), static_cast<std::uint64_t>(Added::full));
    return std::string(in == 1 && full == 1 && list.holds(1) && list.holds(2) ? "" : "both or neither");
  });
  expect_none_failed(found);
  CHECK(found.ends >= 2);
}

TEST(a_link_is_protected_or_dropped_never_both) {
  Model model;
  const ModelList list({1, 7, 2});
  expect_none_failed(model.explore({protects(list, 7), drops(list, 1)}, [&](const Model::Outcome& o) {
    const bool in = list.holds(protected_link(7));
    if (static_cast<Added>(o.results[0]) != Added::full && !in)
      return std::string("a protected link is lost");
    return list.twice();
  }));
}

TEST(a_new_tree_link_survives_pruning_sweeping_and_a_second_adder) {
  // The place of 4, which is leaving, is wanted by the tree, by a sweep, and by a pruner.
  Model model;
  const ModelList list({protected_link(1), 4});
  const Model::Thread hangs = [&] { return std::uint64_t{replace_link(list, 1, 4, protected_link(9))}; };
  expect_none_failed(
      model.explore({hangs, redirects(list, 1, 4, 9), drops(list, 1)}, [&](const Model::Outcome& o) {
        if (!list.holds(protected_link(1))) return std::string("an old tree link is lost");
        if (o.results[0] == 1 && !list.holds(protected_link(9)))
          return std::string("a new tree link is lost");
        return list.twice();
      }));
}

TEST(a_protected_and_a_plain_link_to_one_node_become_the_protected_one) {
  Model model;
  const ModelList list({none, none, 3});
  expect_none_failed(
      model.explore({protects(list, 7), adds(list, 7), redirects(list, 2, 3, 7)}, [&](const Model::Outcome&) {
        if (!list.holds(protected_link(7))) return std::string("the protected one is lost");
        return list.twice();
      }));
}

TEST(a_sweep_replaces_links_beside_others_and_makes_none_twice) {
  Model model;
  // 3 and 4 are moved, to 5 and 6; another thread adds 5.
  const ModelList list({3, 4, none});
  expect_none_failed(model.explore({redirects(list, 0, 3, 5), redirects(list, 1, 4, 6), adds(list, 5)},
                                   [&](const Model::Outcome&) {
                                     if (list.links_to(3) + list.links_to(4) != 0)
                                       return std::string("a link to an old place is left");
                                     if (list.links_to(6) != 1) return std::string("a link is lost");
                                     return list.twice();
                                   }));
}

// Slot 1 is unlinked, retired, reused for another node and linked again, while a pruner that pinned an epoch
// judges the link to the first node. The epoch is two bits wide: it wraps in the middle.
TEST(a_slot_is_reused_only_when_no_pruner_can_take_the_new_node_for_the_old_one) {
  for (const bool waits : {true, false}) {
    Model model;
    const ModelList list({1});
    Atomic<std::uint32_t> node(10); // which node lives in slot 1
    Atomic<std::uint32_t> epoch(3);
    Atomic<std::uint32_t> pinned(0); // 0: not; else epoch + 1
    const Model::Thread prunes = [&] {
      pinned.store((epoch.load() & 3) + 1);
      const Word word = list.word(0);
      std::uint64_t wrong = 0;
      if (word == 1) {
        const std::uint32_t judged = node.load();
        const bool dropped = replace_link(list, 0, 1, none);
        wrong = dropped && node.load() != judged ? 1 : 0;
      }
      pinned.store(0);
      return wrong;
    };
    const Model::Thread reuses = [&] {
      list.swap(0, 1, none);
      const std::uint32_t retired = epoch.load();
      epoch.store((retired + 1) & 3);
      if (waits) pinned.await([&](std::uint32_t p) { return p == 0 || p - 1 != retired; });
      node.store(11);
      add_link(list, 1);
      return std::uint64_t{0};
    };
    const auto found = model.explore({prunes, reuses}, [&](const Model::Outcome& o) {
      return std::string(o.results[0] == 0 ? "" : "the new node was taken for the old one");
    });
    CHECK_EQ(found.failures.empty(), waits);
    CHECK_EQ(found.deadlocks, std::size_t{0});
  }
}
