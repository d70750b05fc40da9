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
  std::vector<Slot> choose(Slot node, std::size_t limit, float alpha = 1.0f, Slot protector = no_slot) {
    std::vector<Candidate> candidates;
    for (Slot slot = 0; slot < x.storage.end(); ++slot) {
      const float d = *test::kept_floats(x.storage, slot) - *test::kept_floats(x.storage, node);
      if (slot != node) candidates.push_back({d * d, slot});
    }
    std::sort(candidates.begin(), candidates.end(), nearer);
    std::vector<Candidate> chosen;
    select_neighbours(x.space, *x.tree, candidates, {limit, alpha, protector}, chosen);
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

TEST(links_of_the_tree_are_always_chosen) {
  Line line({0, 1, 2, 3, 4, -5});
  line.x.storage.set_parent(4, 0); // a child of the node, far and behind others
  line.x.storage.set_parent(0, 3); // its parent
  const std::vector<Slot> chosen = line.choose(0, 3, 1.0f, 0);
  CHECK_EQ(chosen.size(), std::size_t{3});
  for (const Slot slot : {1u, 3u, 4u}) CHECK(std::count(chosen.begin(), chosen.end(), slot) == 1);
}

TEST(rewriting_moves_no_link_that_stays) {
  std::vector<Slot> places{7, no_slot, 3, 9, 4};
  const Links links{places.data(), 5};
  const std::vector<Candidate> chosen{{0.1f, 4}, {0.2f, 8}, {0.3f, 3}, {0.4f, 6}};
  rewrite(links, chosen);
  CHECK_EQ(places[2], 3u);
  CHECK_EQ(places[4], 4u);
  const std::set<Slot> held(places.begin(), places.end());
  CHECK((held == std::set<Slot>{3, 4, 6, 8, no_slot}));
  rewrite(links, {});
  CHECK(std::all_of(places.begin(), places.end(), [](Slot s) { return s == no_slot; }));
}
