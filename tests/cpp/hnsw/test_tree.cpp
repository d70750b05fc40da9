// The tree of protected links under random growth and contraction: after every step it spans the graph.
#include "hnsw/tree.h"

#include <numeric>

#include "world.h"

using namespace embedcore;
using namespace embedcore::hnsw;

namespace {

struct Grove {
  explicit Grove(std::uint32_t m)
      : index(test::make_index(2, Metric::l2, m)), x(IndexTestPeer::impl(*index)) {}

  Slot grow(std::mt19937& random) {
    const Slot slot = x.storage.allocate(0);
    for (std::size_t i = 0; i < 2; ++i) {
      test::kept_floats(x.storage, slot)[i] = static_cast<float>(random() % 1000);
    }
    if (!members.empty()) {
      const std::size_t count = std::min<std::size_t>(members.size(), 1 + random() % x.config.m);
      std::shuffle(members.begin(), members.end(), random);
      for (std::size_t i = 0; i < count; ++i) x.storage.links(slot, 0).store(i, members[i]);
      x.tree->attach(slot, members.front());
    }
    x.storage.set_state(slot, State::live);
    members.push_back(slot);
    return slot;
  }
  void fell(std::size_t at) {
    const Slot slot = members[at];
    members.erase(members.begin() + static_cast<std::ptrdiff_t>(at));
    x.storage.set_state(slot, State::leaving);
    // As repair does first: links that the tree does not need go.
    for (const Slot member : members) {
      const Links links = x.storage.links(member, 0);
      const std::size_t place = links.find(slot);
      if (place != links.count && !is_protected(links.word(place))) links.store(place, no_slot);
    }
    x.tree->contract(slot);
    x.storage.set_state(slot, State::detached);
  }
  // One root, links both ways along every edge, no way to a node that was taken out.
  void expect_spanning() {
    std::size_t roots = 0;
    for (const Slot slot : members) {
      const Links own = x.storage.links(slot, 0);
      for (std::size_t i = 0; i < own.count; ++i) {
        CHECK(own.load(i) == no_slot || x.storage.state(own.load(i)) == State::live);
        const Slot to = own.load(i);
        const bool of_tree = to != no_slot && (x.storage.parent(to) == slot || x.storage.parent(slot) == to);
        CHECK_EQ(is_protected(own.word(i)), of_tree);
      }
      Slot at = slot;
      std::size_t steps = 0;
      while (x.storage.parent(at) != no_slot && steps <= members.size()) {
        const Slot parent = x.storage.parent(at);
        const Links down = x.storage.links(parent, 0);
        const Links up = x.storage.links(at, 0);
        CHECK(down.find(at) != down.count && is_protected(down.word(down.find(at))));
        CHECK(up.find(parent) != up.count && is_protected(up.word(up.find(parent))));
        at = parent;
        ++steps;
      }
      CHECK(steps <= members.size()); // no cycle
      roots += x.storage.parent(slot) == no_slot ? 1u : 0u;
    }
    CHECK_EQ(roots, members.empty() ? std::size_t{0} : std::size_t{1});
  }

  std::shared_ptr<Index> index;
  Index::Impl& x;
  std::vector<Slot> members;
};

} // namespace

TEST(the_tree_spans_the_graph_whatever_is_added_or_taken_out) {
  for (const std::uint32_t m : {2u, 3u, 8u}) {
    std::mt19937 random(70 + m);
    Grove grove(m);
    for (int step = 0; step < 400; ++step) {
      if (grove.members.size() > 3 && random() % 3 == 0) {
        grove.fell(random() % grove.members.size());
      } else {
        grove.grow(random);
      }
      grove.expect_spanning();
    }
    while (!grove.members.empty()) {
      grove.fell(random() % grove.members.size());
      grove.expect_spanning();
    }
  }
}

TEST(no_node_gets_more_children_than_half_of_its_links) {
  std::mt19937 random(80);
  Grove grove(3);
  const Slot hub = grove.grow(random);
  for (int i = 0; i < 60; ++i) { // all want the hub for a parent
    const std::vector<Slot> all = grove.members;
    grove.members = {hub};
    const Slot slot = grove.grow(random);
    grove.members = all;
    grove.members.push_back(slot);
  }
  std::vector<std::size_t> children(grove.x.storage.end(), 0);
  for (const Slot slot : grove.members) {
    if (grove.x.storage.parent(slot) != no_slot) ++children[grove.x.storage.parent(slot)];
  }
  CHECK_EQ(*std::max_element(children.begin(), children.end()), std::size_t{3});
  grove.expect_spanning();
}
