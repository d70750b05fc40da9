// Neighbour selection on points of a line, where what the heuristic must do can be said by hand.
#include "hnsw/select.h"

#include "world.h"

using namespace embedcore;
using namespace embedcore::hnsw;

namespace {

// Slot i of the index holds the point at xs[i]; nothing but vectors and states is needed.
struct Line {
  explicit Line(std::vector<float> xs)
      : index(test::make_index(1, Metric::l2, 2)), x(IndexTestPeer::impl(*index)) {
    for (const float position : xs) {
      const Slot slot = x.storage.allocate(0);
      *test::kept_floats(x.storage, slot) = position;
    }
  }
  std::vector<Slot> choose(Slot node, std::size_t limit, float alpha = 1.0f, std::vector<Slot> forced = {}) {
    std::vector<Candidate> candidates;
    for (Slot slot = 0; slot < x.storage.end(); ++slot) {
      const float d = *test::kept_floats(x.storage, slot) - *test::kept_floats(x.storage, node);
      if (slot != node) candidates.push_back({d * d, slot});
    }
    std::sort(candidates.begin(), candidates.end(), nearer);
    std::vector<Candidate> chosen;
    select_neighbours(x.space, candidates, {limit, alpha, forced}, chosen);
    std::vector<Slot> slots;
    for (const Candidate& c : chosen) slots.push_back(c.slot);
    return slots;
  }
  std::shared_ptr<Index> index;
  Index::Impl& x;
};

} // namespace

TEST(a_candidate_behind_a_chosen_one_is_pruned_and_fills_the_list_last) {
  // Node at 0. 1 is nearest; 2 lies behind it; -3 is on the other side.
  Line line({0, 1, 2, -3});
  CHECK((line.choose(0, 2) == std::vector<Slot>{1, 3}));
  CHECK((line.choose(0, 3) == std::vector<Slot>{1, 3, 2}));
}

TEST(pruned_candidates_fill_a_list_up_to_half_as_many_again) {
  // Of each side the nearest is chosen; then the nearest pruned one, however much room is left.
  Line line({0, 1, 2, 4, -3, -5, -9});
  CHECK((line.choose(0, 6) == std::vector<Slot>{1, 4, 2}));
  CHECK((line.choose(0, 2) == std::vector<Slot>{1, 4}));
}

TEST(alpha_keeps_more) {
  // The squared distance of 3 to 1 is 4, to the node 9: pruned unless alpha * 4 reaches 9.
  Line line({0, 1, 3});
  CHECK((line.choose(0, 2, 1.0f) == std::vector<Slot>{1}));
  CHECK((line.choose(0, 2, 2.5f) == std::vector<Slot>{1, 2}));
  Line fuller({0, 1, 3, -5});
  CHECK((fuller.choose(0, 2, 1.0f) == std::vector<Slot>{1, 3}));
  CHECK((fuller.choose(0, 2, 2.5f) == std::vector<Slot>{1, 2}));
}

TEST(forced_candidates_are_always_chosen) {
  Line line({0, 1, 2, 3, 4, -5}); // 3 and 4 are behind others
  const std::vector<Slot> chosen = line.choose(0, 3, 1.0f, {3, 4});
  CHECK_EQ(chosen.size(), std::size_t{3});
  for (const Slot slot : {1u, 3u, 4u}) CHECK(std::count(chosen.begin(), chosen.end(), slot) == 1);
}

namespace {

// The list of the node at 0 (slot 0) holds these words, in this order.
struct FullList : Line {
  FullList(std::vector<float> xs, std::vector<Word> words)
      : Line(std::move(xs)), links(x.storage.links(0, 0)) {
    for (std::size_t i = 0; i < words.size(); ++i) links.store(i, words[i]);
  }
  std::vector<Word> words() const {
    std::vector<Word> all;
    for (std::size_t i = 0; i < links.count; ++i) all.push_back(links.word(i));
    return all;
  }
  Links links;
};

} // namespace

TEST(pruning_a_full_list_moves_no_link_that_stays_and_drops_no_protected_one) {
  // 1 and -1 cover the others; 7 is the newcomer between 1 and the node.
  FullList list({0, 1, 2, 3, -1, -2, 9, 0.25f}, {3, protected_link(2), 4, 1});
  CHECK(prune_into(list.x.space, list.links, 0, 7, 1.0f) == Pruned::placed);
  CHECK((list.words() == std::vector<Word>{7, protected_link(2), 4, 1}));
}

TEST(pruning_refuses_a_newcomer_that_is_covered_and_drops_what_is_covered_too) {
  FullList list({0, 1, 2, 3, -1, -2, 9, 4}, {1, 3, 4, 2});
  CHECK(prune_into(list.x.space, list.links, 0, 7, 1.0f) == Pruned::refused);
  CHECK((list.words() == std::vector<Word>{1, empty_word, 4, 2}));
  // A protected newcomer is never refused while there is room,
  CHECK(prune_into(list.x.space, list.links, 0, protected_link(7), 1.0f) == Pruned::placed);
  CHECK(list.words()[1] == protected_link(7));
  // and only where all links are protected.
  FullList full({0, 1, 2, 3, -1, -2},
                {protected_link(1), protected_link(2), protected_link(3), protected_link(4)});
  CHECK(prune_into(full.x.space, full.links, 0, protected_link(5), 1.0f) == Pruned::refused);
  CHECK((full.words() ==
         std::vector<Word>{protected_link(1), protected_link(2), protected_link(3), protected_link(4)}));
}
