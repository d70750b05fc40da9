// The walk of every set of kernels that runs here, in every form, against a best-first search out of the
// standard library: same nodes, same distances, same effort.
#include "walk_world.h"

using namespace embedcore::hnsw;

namespace {

template <class Check>
void for_each_world(Check check) {
  std::uint32_t seed = 0;
  for (const Form form : every_form) {
    for (const Sum sum : every_sum) {
      const World world(form, sum, ++seed);
      for (const Kernels* kernels : running()) check(world, *kernels);
    }
  }
}

} // namespace

TEST(a_walk_is_a_best_first_search) {
  for_each_world([](const World& world, const Kernels& kernels) {
    for (const std::size_t capacity : {1, 10, 15, 16, 17, 64, 100}) {
      for (const std::size_t beam : {1, 2, 4}) {
        for (const std::uint32_t start : {0u, 299u}) {
          const Breadth breadth{capacity, beam};
          CHECK(alone(world, kernels, start, breadth) == reference(world, kernels, start, breadth));
        }
      }
    }
  });
}

TEST(a_walk_with_room_for_all_finds_all_but_what_came_later) {
  for_each_world([](const World& world, const Kernels& kernels) {
    Found all; // every node is linked to by about twenty others
    for (std::uint32_t node = 0; node < World::limit; ++node) {
      all.emplace_back(world.distance(kernels, node), node);
    }
    std::sort(all.begin(), all.end());
    for (const std::size_t beam : {1, 2, 4}) {
      Result result = alone(world, kernels, 7, {World::nodes, beam});
      CHECK(std::is_sorted(result.found.begin(), result.found.end(),
                           [](const auto& a, const auto& b) { return a.first < b.first; }));
      std::sort(result.found.begin(), result.found.end()); // copies by number
      CHECK(result.found == all);
      CHECK_EQ(result.computed, World::limit - 1);
      CHECK_EQ(result.hops, World::limit);
    }
  });
}

TEST(a_walk_that_stops_early_does_less_and_returns_the_same_kind) {
  std::uint64_t saved = 0;
  for_each_world([&](const World& world, const Kernels& kernels) {
    for (const std::size_t beam : {1, 2, 4}) {
      const Result whole = alone(world, kernels, 3, {100, beam});
      for (const std::size_t rank : {1, 10, 100}) {
        for (const float stretch : {1.0f, 1.02f, 1.2f}) {
          const Breadth breadth{100, beam, rank, stretch};
          const Result early = alone(world, kernels, 3, breadth);
          CHECK(early == reference(world, kernels, 3, breadth));
          CHECK(early.computed <= whole.computed);
          saved += whole.computed - early.computed;
        }
      }
    }
  });
  CHECK(saved != 0);
}

TEST(walks_in_turn_find_what_each_finds_alone) {
  for_each_world([](const World& world, const Kernels& kernels) {
    const Breadth breadths[] = {{50, 1}, {1, 1}, {100, 4}, {20, 2, 5, 1.02f}, {50, 2}};
    std::vector<Run> runs;
    std::vector<Walk*> walks;
    for (std::uint32_t i = 0; i < std::size(breadths); ++i) {
      runs.emplace_back(world, kernels, 11 * i, breadths[i], roomy);
    }
    for (Run& run : runs) walks.push_back(&run.walk);
    while (!walks.empty()) {
      const std::size_t ended = go_on(kernels, world, walks);
      CHECK(ended < walks.size());
      if (ended >= walks.size()) return;
      walks.erase(walks.begin() + static_cast<std::ptrdiff_t>(ended));
    }
    for (std::uint32_t i = 0; i < std::size(breadths); ++i) {
      CHECK(runs[i].result() == alone(world, kernels, 11 * i, breadths[i]));
    }
  });
}

TEST(the_log_holds_what_a_walk_met_or_says_that_it_overflowed) {
  for_each_world([](const World& world, const Kernels& kernels) {
    for (const std::size_t beam : {1, 2, 4}) {
      const Breadth breadth{100, beam};
      Run kept(world, kernels, 5, breadth, roomy);
      Run spilt(world, kernels, 5, breadth, least_log(breadth));
      for (Run* run : {&kept, &spilt}) {
        std::vector<Walk*> walks{&run->walk};
        go_on(kernels, world, walks);
      }
      CHECK(!kept.walk.overflowed);
      CHECK(spilt.walk.overflowed);
      CHECK(spilt.result() == kept.result());
      CHECK(spilt.seen == kept.seen);

      std::vector<std::uint32_t> logged(kept.log.begin(),
                                        kept.log.begin() + static_cast<std::ptrdiff_t>(kept.walk.log_size));
      std::sort(logged.begin(), logged.end());
      std::vector<std::uint32_t> marked;
      for (std::uint32_t node = 0; node < World::limit; ++node) {
        if ((kept.seen[node / 32] >> node % 32 & 1) != 0) marked.push_back(node);
      }
      CHECK(logged == marked);
      CHECK_EQ(logged.size(), kept.walk.computed + 1);
    }
  });
}

TEST(a_walk_asks_for_the_rows_to_be_read_at_its_end) {
  std::size_t asked = 0;
  for_each_world([&](const World& world, const Kernels& kernels) {
    for (const std::size_t ending : {0, 1, 16, 1000}) {
      const Breadth breadth{64, 2};
      Run run(world, kernels, 3, breadth, roomy);
      run.walk.ending_rows = world.measure.rows;
      run.walk.ending_stride = world.measure.stride;
      run.walk.ending_lines = 2;
      run.walk.ending = ending;
      std::vector<Walk*> walks{&run.walk};
      go_on(kernels, world, walks);
      CHECK(run.result() == alone(world, kernels, 3, breadth));
      CHECK(run.walk.asked <= std::min(ending, run.walk.size));
      if (ending == 16) CHECK_EQ(run.walk.asked, ending);
      asked += run.walk.asked;
    }
  });
  CHECK(asked != 0);
}
