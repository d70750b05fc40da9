// Walks over the storage of an index whose links are random, against searches out of the standard library.
#include "hnsw/walk.h"

#include "hnsw/filter.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::hnsw;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 8;
constexpr std::size_t nodes = 250;

using Near = std::pair<float, Slot>;

struct Graph {
  explicit Graph(std::uint32_t seed, Kind kind = {})
      : random(seed), index(make_index(dim, Metric::l2, 6, 0, kind)), x(IndexTestPeer::impl(*index)) {
    for (std::size_t i = 0; i < nodes; ++i) grow();
    for (Slot slot = 0; slot < nodes; ++slot) {
      for (std::uint32_t level = 0; level <= 1; ++level) {
        const Links links = x.storage.links(slot, level);
        for (std::size_t j = 0; j < links.count; ++j) { // with holes
          if (random() % 5 != 0) links.store(j, static_cast<Slot>(random() % nodes));
        }
      }
    }
    query = random_vector(random, dim);
    probe = Probe::exact(x.space, query.data());
  }
  Slot grow() {
    const Slot slot = x.storage.allocate(1);
    const Vector v = random_vector(random, dim);
    x.storage.node(slot).id = slot;
    x.storage.node(slot).inverse_norm = x.storage.store_original(slot, v.data());
    x.storage.set_state(slot, State::live);
    return slot;
  }
  // What slot links to below limit, each once and not in seen; they are added to it.
  std::vector<Slot> fresh(Slot slot, std::uint32_t level, Slot limit, std::set<Slot>& seen) const {
    std::vector<Slot> met;
    const Links links = x.storage.links(slot, level);
    for (std::size_t i = 0; i < links.count; ++i) {
      const Slot to = links.load(i);
      if (to < limit && seen.insert(to).second) met.push_back(to);
    }
    return met;
  }

  std::mt19937 random;
  std::shared_ptr<Index> index;
  Index::Impl& x;
  Vector query;
  Probe probe;
};

struct Walked {
  std::vector<Near> found;
  std::uint64_t hops = 0;
  std::uint64_t computed = 0;
};

// Best-first: the nearest `capacity` met; `beam` nodes are expanded before what they lead to is looked at.
Walked plain(const Graph& g, const std::vector<Slot>& starts, std::uint32_t level, const Breadth& breadth) {
  Walked result;
  std::set<Near> best;
  std::set<Slot> expanded;
  std::set<Slot> seen;
  const auto meet = [&](Slot slot) {
    const float distance = g.probe.to(slot);
    if (best.size() == breadth.capacity && !(distance < best.rbegin()->first)) return;
    best.emplace(distance, slot);
    if (best.size() > breadth.capacity) best.erase(std::prev(best.end()));
  };
  for (const Slot start : starts) {
    if (seen.insert(start).second) meet(start);
  }
  for (;;) {
    std::vector<Slot> step;
    std::size_t taken = 0;
    for (const Near& entry : best) {
      if (taken == breadth.beam) break;
      if (!expanded.insert(entry.second).second) continue;
      ++taken;
      const auto met = g.fresh(entry.second, level, nodes, seen);
      step.insert(step.end(), met.begin(), met.end());
    }
    if (taken == 0) break;
    result.hops += taken;
    result.computed += step.size();
    for (const Slot slot : step) meet(slot);
  }
  result.found.assign(best.begin(), best.end());
  return result;
}

Walked in_kernel(const Graph& g, const std::vector<Slot>& starts, const Breadth& breadth, Scratch& scratch) {
  scratch.hops = 0;
  scratch.computed = 0;
  begin_walk(g.x.storage, g.probe, breadth, scratch);
  for (const Slot start : starts) start_at({g.probe.to(start), start}, scratch);
  Walk* walk = &scratch.walk;
  CHECK_EQ(g.probe.walk()(&walk, 1), std::size_t{0});
  end_walk(scratch);
  Walked result{{}, scratch.hops, scratch.computed};
  for (std::size_t i = 0; i < walk->size; ++i) result.found.emplace_back(walk->distances[i], walk->slots[i]);
  return result;
}

} // namespace

TEST(a_walk_over_storage_is_a_plain_best_first_search) {
  Scratch scratch; // the same for all, as in a pool: nothing may be left of the walk before
  for (std::uint32_t seed = 121; seed < 126; ++seed) {
    const Graph g(seed);
    for (const std::size_t capacity : {1u, 2u, 7u, 40u, 250u, 1000u}) {
      for (const std::size_t beam : {1u, 2u, 3u, 4u}) {
        for (const std::vector<Slot>& starts : {std::vector<Slot>{0}, {249}, {3, 3, 8}, {9, 1, 200, 77}}) {
          if (starts.size() > capacity) continue;
          const Walked expected = plain(g, starts, 0, {capacity, beam});
          const Walked got = in_kernel(g, starts, {capacity, beam}, scratch);
          CHECK(got.found == expected.found);
          CHECK_EQ(got.hops, expected.hops);
          CHECK_EQ(got.computed, expected.computed);
        }
      }
    }
  }
}

TEST(a_walk_passes_over_what_came_after_it_began) {
  Graph g(127);
  Scratch scratch;
  begin_walk(g.x.storage, g.probe, {300, 2}, scratch);
  for (int i = 0; i < 5; ++i) { // linked from everywhere at once
    const Slot late = g.grow();
    for (Slot slot = 0; slot < nodes; slot += 3) {
      const Links links = g.x.storage.links(slot, 0);
      links.store(static_cast<std::size_t>(i), late);
    }
  }
  start_at({g.probe.to(0), 0}, scratch);
  Walk* walk = &scratch.walk;
  g.probe.walk()(&walk, 1);
  end_walk(scratch);
  CHECK(walk->size > nodes / 2);
  for (std::size_t i = 0; i < walk->size; ++i) CHECK(walk->slots[i] < nodes);
}

TEST(a_walk_above_level_0_is_one_too) {
  const Graph g(128);
  for (const std::size_t capacity : {1u, 5u, 300u}) {
    Scratch scratch;
    scratch.visited.begin(g.x.storage.end(), 16);
    scratch.queue.reset(capacity);
    scratch.visited.insert(17);
    scratch.queue.push(g.probe.to(17), 17);
    walk_upper(g.x.storage, g.probe, 1, scratch);
    scratch.visited.clear();
    const Walked expected = plain(g, {17}, 1, {capacity, 1});
    CHECK_EQ(scratch.queue.size(), expected.found.size());
    for (std::size_t i = 0; i < std::min(scratch.queue.size(), expected.found.size()); ++i) {
      CHECK_EQ(scratch.queue[i].slot, expected.found[i].second);
      CHECK_EQ(scratch.queue[i].distance, expected.found[i].first);
    }
  }
}

TEST(a_descent_ends_where_no_neighbour_is_nearer) {
  const Graph g(129);
  for (Slot start = 0; start < nodes; start += 9) {
    Scratch scratch;
    const Candidate end = descend(g.x.storage, g.probe, {g.probe.to(start), start}, 1, 0, scratch);
    CHECK_EQ(end.distance, g.probe.to(end.slot));
    CHECK(end.distance <= g.probe.to(start));
    std::set<Slot> none;
    for (const Slot to : g.fresh(end.slot, 1, nodes, none)) CHECK(!(g.probe.to(to) < end.distance));
  }
}

TEST(an_admitted_walk_returns_the_nearest_that_may_be_returned) {
  struct Thirds : IdFilter {
    [[nodiscard]] bool allows(std::int64_t id) const override { return id % 3 == 0; }
  };
  const Thirds thirds;
  for (std::uint32_t seed = 131; seed < 135; ++seed) {
    Graph g(seed);
    for (Slot slot = 0; slot < nodes; slot += 4) {
      g.x.storage.set_state(slot, State::tombstone);
      g.x.storage.set_died(slot, slot); // as number of the switch
    }
    for (const IdFilter* filter :
         {static_cast<const IdFilter*>(nullptr), static_cast<const IdFilter*>(&thirds)}) {
      for (const std::size_t ef : {1u, 5u, 30u, 1000u}) {
        for (const float radius : {-1.0f, 6.0f}) {
          // The same search, plainly.
          std::set<Near> best;
          std::set<Near> frontier;
          std::set<Slot> seen{5};
          std::set<Slot> died;
          const auto worthwhile = [&](float d) {
            return best.size() < ef || d < best.rbegin()->first || d <= radius;
          };
          const auto meet = [&](Slot slot) {
            const float d = g.probe.to(slot);
            if (!worthwhile(d)) return;
            frontier.emplace(d, slot);
            if (slot % 4 == 0) {
              if (slot > 100) died.insert(slot);
              return;
            }
            if (filter != nullptr && slot % 3 != 0) return;
            best.emplace(d, slot);
            if (best.size() > ef && best.rbegin()->first > radius) best.erase(std::prev(best.end()));
          };
          meet(5);
          while (!frontier.empty() && worthwhile(frontier.begin()->first)) {
            const Slot at = frontier.begin()->second;
            frontier.erase(frontier.begin());
            for (const Slot to : g.fresh(at, 0, nodes, seen)) meet(to);
          }

          Scratch scratch;
          walk_admitted(g.x.storage, g.probe, {g.probe.to(5), 5}, ef, {filter, 100, radius}, scratch);
          std::vector<Near> found;
          for (const Candidate& c : scratch.best) found.emplace_back(c.distance, c.slot);
          CHECK(found == std::vector<Near>(best.begin(), best.end()));
          CHECK(std::set<Slot>(scratch.died.begin(), scratch.died.end()) == died);
          for (Slot slot = 0; slot < nodes; ++slot) { // cleared
            scratch.visited.begin(nodes, 16);
            CHECK(scratch.visited.insert(slot));
            scratch.visited.clear();
          }
        }
      }
    }
  }
}

TEST(an_admitted_walk_that_is_cancelled_ends_with_what_it_has) {
  struct Impatient : IdFilter {
    [[nodiscard]] bool allows(std::int64_t) const override { return ++asked != 0; }
    [[nodiscard]] bool cancelled() const override { return asked >= 20; }
    mutable std::size_t asked = 0;
  };
  const Graph g(136);
  const Impatient filter;
  Scratch scratch;
  walk_admitted(g.x.storage, g.probe, {g.probe.to(0), 0}, 1000, {&filter, 0}, scratch);
  CHECK(filter.asked >= 20 && filter.asked < 20 + 12); // up to the end of a hop
  CHECK_EQ(scratch.best.size(), filter.asked);
  CHECK(std::is_sorted(scratch.best.begin(), scratch.best.end(), nearer));
}
