// The walk of every set of kernels that runs here, in every form, against a best-first search out of the
// standard library: same nodes, same distances, same effort.
#include <algorithm>
#include <queue>
#include <set>
#include <tuple>
#include <utility>

#include "check.h"
#include "kernel_rows.h"

using namespace embedcore::hnsw;

namespace {

using Found = std::vector<std::pair<float, std::uint32_t>>; // nearest first

struct Result {
  Found found;
  std::uint64_t hops = 0;
  std::uint64_t computed = 0;
  bool operator==(const Result&) const = default;
};

struct Breadth {
  std::size_t capacity;
  std::size_t beam = 1;
  std::size_t rank = 0;
  float stretch = 0;
};

// A random graph of 300 nodes in the snapshot of a walk and 20 that came later; links to those and unused
// places are strewn among the others. Distances are positive; one node in ten is a copy of another.
struct World {
  static constexpr std::size_t links = 32;
  static constexpr std::uint32_t limit = 300;
  static constexpr std::uint32_t nodes = 320;
  static constexpr std::size_t block_words = links + 3;

  World(Form form, Sum s, std::uint32_t seed, std::size_t dim = 128)
      : sum(s),
        rows(form, dim, nodes, 4),
        query(form, s, dim),
        blocks(nodes * block_words),
        extra(nodes * 2) {
    std::mt19937 random(seed);
    rows.fill(random);
    query.fill(random);
    std::uniform_real_distribution<float> uniform;
    const double size = expected(query, rows, 0).magnitude;
    for (std::uint32_t node = 0; node < nodes; ++node) {
      extra[2 * node] = 1 + uniform(random);
      extra[2 * node + 1] = static_cast<float>(size) * (10 + uniform(random));
      if (node % 10 == 9) {
        std::memcpy(rows.row(node), rows.row(node - 3), rows.stride - 4);
        std::copy_n(&extra[2 * node - 6], 2, &extra[2 * node]);
      }
      for (std::size_t i = 0; i < block_words; ++i) {
        const auto to = static_cast<std::uint32_t>(random() % nodes);
        blocks[node * block_words + i] = random() % 4 == 0 ? ~0u : to;
      }
    }
    measure = measure_of(query, rows);
    measure.offset = static_cast<float>(size);
    measure.scale = s == Sum::dot ? -1.0f : 1.0f;
    measure.factors = reinterpret_cast<const std::byte*>(extra.data());
    measure.terms = measure.factors + sizeof(float);
    measure.factor_stride = 2 * sizeof(float);
  }

  [[nodiscard]] float distance(const Kernels& kernels, std::uint32_t node) const {
    float d = 0;
    embedcore::hnsw::measure(kernels, rows.form, sum, measure, &node, 1, &d);
    return d;
  }

  // What the first part of its row says about a node; below every bound where nothing is to be judged by
  // that.
  [[nodiscard]] float estimate(std::uint32_t node) const {
    if (measure.part_scale == 0) return -std::numeric_limits<float>::infinity();
    double part = 0;
    for (std::size_t i = 0; i < rows.n; ++i) part += rows.kept(node, i) >= 8 ? 8 * query.value(i) : 0;
    return measure.part_offset + measure.part_scale * static_cast<float>(part);
  }

  Sum sum;
  Rows rows;
  Query query;
  std::vector<std::uint32_t> blocks;
  std::vector<float> extra; // factor and term of each node
  Measure measure;
};

// u4 rows to judge by their highest bits, distances offset - sum. The low bits, where there are any, take
// away from the sum, so that offset - part is never above the distance. All numbers are whole and small:
// floats hold them exactly.
struct PartWorld : World {
  explicit PartWorld(std::uint32_t seed) : World(Form::u4, Sum::dot, seed, 640) {
    float most = 0;
    for (std::size_t i = 0; i < rows.n; ++i) {
      most += 15 * std::abs(static_cast<float>(query.value(i)));
      for (std::uint32_t node = 0; node < nodes; ++node) {
        const auto u = static_cast<std::uint32_t>(rows.kept(node, i));
        rows.put(node, i, query.value(i) < 0 && i % 15 == 0 ? u : u & 8);
      }
    }
    measure.offset = most;
    measure.factors = nullptr;
    measure.terms = nullptr;
  }
  void judge(float above) { // how far estimates lie above what is safe
    measure.part_offset = measure.offset + above;
    measure.part_scale = -1;
  }
  void judge_not() { measure.part_scale = 0; }
};

// Of two nodes at the same distance the one met first counts as nearer.
using Entry = std::tuple<float, std::size_t, std::uint32_t>; // distance, how many were met before, node
float distance_of(const Entry& entry) { return std::get<float>(entry); }

Result reference(const World& world, const Kernels& kernels, std::uint32_t start, const Breadth& breadth,
                 std::size_t* ruled_out = nullptr) {
  Result result;
  std::set<Entry> best;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> candidates;
  std::set<std::uint32_t> seen;
  std::size_t met = 0;
  constexpr float inf = std::numeric_limits<float>::infinity();
  const auto bound = [&] {
    float most = best.size() < breadth.capacity ? inf : distance_of(*best.rbegin());
    if (breadth.rank != 0 && best.size() >= breadth.rank) {
      const auto ranked = std::next(best.begin(), static_cast<std::ptrdiff_t>(breadth.rank) - 1);
      most = std::min(most, breadth.stretch * distance_of(*ranked));
    }
    return most;
  };
  const auto meet = [&](std::uint32_t node) {
    const Entry entry{world.distance(kernels, node), met++, node};
    if (!(distance_of(entry) < bound())) return;
    best.insert(entry);
    candidates.push(entry);
    if (best.size() > breadth.capacity) best.erase(std::prev(best.end()));
  };
  seen.insert(start);
  meet(start);
  for (;;) {
    std::vector<std::uint32_t> fresh;
    const float early = breadth.rank != 0 ? bound() : inf;
    std::size_t taken = 0;
    for (; taken < breadth.beam && !candidates.empty(); ++taken) {
      const Entry next = candidates.top();
      if (!best.contains(next) || distance_of(next) > early) break;
      candidates.pop();
      const std::uint32_t* links = &world.blocks[std::get<std::uint32_t>(next) * World::block_words];
      for (const std::uint32_t to : std::span(links, World::links)) {
        if (to < World::limit && seen.insert(to).second) fresh.push_back(to);
      }
    }
    if (taken == 0) break;
    result.hops += taken;
    const float before = bound();
    for (const std::uint32_t node : fresh) {
      if (world.estimate(node) < before) {
        meet(node);
      } else {
        ++met;
        if (ruled_out != nullptr) ++*ruled_out;
      }
    }
  }
  result.computed = met - 1; // the start's distance is given
  for (const Entry& entry : best)
    result.found.emplace_back(distance_of(entry), std::get<std::uint32_t>(entry));
  return result;
}

// A Walk with its memory, each array as short as the contract allows.
struct Run {
  Run(const World& world, const Kernels& kernels, std::uint32_t start, const Breadth& breadth,
      std::size_t log_capacity)
      : seen(World::limit / 32 + 1),
        log(log_capacity),
        buffer(breadth.beam * World::links),
        kept(buffer.size()),
        parts(buffer.size()),
        distances(breadth.capacity + walk_margin, std::numeric_limits<float>::infinity()),
        slots(breadth.capacity + walk_margin) {
    seen[World::limit / 32] |= 1u << World::limit % 32;
    seen[start / 32] |= 1u << start % 32;
    log[0] = start;
    distances[0] = world.distance(kernels, start);
    slots[0] = start;
    walk.measure = world.measure;
    walk.row_lines = (world.rows.stride + 63) / 64;
    walk.part_lines = (world.rows.n / 8 + 63) / 64;
    walk.blocks = reinterpret_cast<const std::byte*>(world.blocks.data());
    walk.block_bytes = World::block_words * sizeof(std::uint32_t);
    walk.links = World::links;
    walk.seen = seen.data();
    walk.limit = World::limit;
    walk.log = log.data();
    walk.log_size = 1;
    walk.log_capacity = log.size();
    walk.fresh = 1;
    walk.buffer = buffer.data();
    walk.kept = kept.data();
    walk.parts = parts.data();
    walk.distances = distances.data();
    walk.slots = slots.data();
    walk.size = 1;
    walk.capacity = breadth.capacity;
    walk.beam = breadth.beam;
    walk.rank = breadth.rank;
    walk.stretch = breadth.stretch;
  }

  [[nodiscard]] Result result() const {
    Result r{{}, walk.hops, walk.computed};
    for (std::size_t i = 0; i < walk.size; ++i) r.found.emplace_back(distances[i], slots[i] & ~(1u << 31));
    return r;
  }

  Walk walk{};
  std::vector<std::uint32_t> seen;
  std::vector<std::uint32_t> log;
  std::vector<float> buffer;
  std::vector<std::uint32_t> kept;
  std::vector<std::int32_t> parts;
  std::vector<float> distances;
  std::vector<std::uint32_t> slots;
};

std::size_t go_on(const Kernels& kernels, const World& world, std::vector<Walk*>& walks) {
  return kernels.walk[index_of(world.rows.form)][index_of(world.sum)](walks.data(), walks.size());
}

constexpr std::size_t roomy = 2 * World::nodes + 4 * World::links;
constexpr std::size_t least_log(const Breadth& b) { return 2 * b.beam * World::links; }

// For walks that judge by parts: with a full queue, with an early stop, with both.
constexpr Breadth part_breadths[] = {
    {1, 1}, {10, 1}, {64, 2}, {100, 4}, {100, 1, 10, 1}, {300, 2, 20, 1.1f}, {40, 4, 10, 1.02f}};

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

// A queue of one, full with slot 0 at distance 8, meets slot 1, which is at 0 and estimated at part_offset -
// part. Which one it holds in the end. Multiples of 8 as large as part may be are exact in floats.
std::uint32_t nearer_by_part(const Kernels& kernels, const Query& query, const Rows& rows,
                             double part_offset) {
  constexpr std::size_t links = 16;
  std::vector<std::uint32_t> blocks(2 * links, ~0u);
  blocks[3] = 1;
  std::uint32_t seen = 1u | 1u << 2; // slot 0, and limit
  std::uint32_t log[2 * links] = {};
  float buffer[links];
  std::uint32_t kept[links];
  std::int32_t parts[links];
  float distances[1 + walk_margin];
  std::uint32_t slots[1 + walk_margin] = {0};
  std::fill(std::begin(distances), std::end(distances), std::numeric_limits<float>::infinity());
  distances[0] = 8;
  Walk walk{};
  walk.measure = measure_of(query, rows);
  walk.measure.scale = 0;
  walk.measure.part_offset = static_cast<float>(part_offset);
  walk.measure.part_scale = -1;
  walk.blocks = reinterpret_cast<const std::byte*>(blocks.data());
  walk.block_bytes = links * sizeof(std::uint32_t);
  walk.links = links;
  walk.seen = &seen;
  walk.limit = 2;
  walk.log = log;
  walk.log_size = 1;
  walk.log_capacity = std::size(log);
  walk.fresh = 1;
  walk.buffer = buffer;
  walk.kept = kept;
  walk.parts = parts;
  walk.distances = distances;
  walk.slots = slots;
  walk.size = 1;
  walk.capacity = 1;
  walk.beam = 1;
  Walk* walks[] = {&walk};
  kernels.walk[index_of(Form::u4)][index_of(Sum::dot)](walks, 1);
  CHECK_EQ(walk.computed, 1u);
  return slots[0] & ~(1u << 31);
}

Result alone(const World& world, const Kernels& kernels, std::uint32_t start, const Breadth& breadth) {
  Run run(world, kernels, start, breadth, roomy);
  std::vector<Walk*> walks{&run.walk};
  CHECK_EQ(go_on(kernels, world, walks), 0u);
  CHECK(!run.walk.overflowed);
  return run.result();
}

} // namespace

TEST(a_walk_is_a_best_first_search) {
  for_each_world([](const World& world, const Kernels& kernels) {
    for (const std::size_t capacity : {1, 10, 64, 100}) {
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

TEST(a_node_is_ruled_out_at_the_very_number_of_its_highest_bits) {
  std::mt19937 random(34);
  for (const std::size_t n : {128, 256, 384, 65536}) {
    for (const int extreme : {0, 127, -127}) { // 0: random
      const Rows rows(Form::u4, n, 2);
      const Query query(Form::u4, Sum::dot, n);
      rows.fill(random);
      query.fill(random);
      double part = 0;
      for (std::size_t i = 0; i < n; ++i) {
        if (extreme != 0) {
          query.put(i, extreme);
          rows.put(1, i, 15);
        }
        part += rows.kept(1, i) >= 8 ? 8 * query.value(i) : 0;
      }
      for (const Kernels* kernels : running()) {
        CHECK_EQ(nearer_by_part(*kernels, query, rows, part), 1u);
        CHECK_EQ(nearer_by_part(*kernels, query, rows, part + 8), 0u);
      }
    }
  }
}

TEST(an_estimate_that_is_never_too_high_changes_nothing) {
  std::size_t ruled_out = 0;
  for (const Kernels* kernels : running()) {
    PartWorld world(31);
    for (const Breadth& breadth : part_breadths) {
      for (const std::uint32_t start : {0u, 299u}) {
        world.judge_not();
        const Result plain = alone(world, *kernels, start, breadth);
        world.judge(0);
        const Result judged = alone(world, *kernels, start, breadth);
        CHECK(judged == plain);
        CHECK(judged == reference(world, *kernels, start, breadth, &ruled_out));
      }
    }
    for (std::uint32_t node = 0; node < World::nodes; ++node) {
      CHECK(world.estimate(node) <= world.distance(*kernels, node));
    }
  }
  CHECK(ruled_out > 1000);
}

TEST(an_estimate_that_is_too_high_loses_nodes) {
  std::size_t lost = 0;
  for (const Kernels* kernels : running()) {
    PartWorld world(32);
    for (const Breadth& breadth : part_breadths) {
      world.judge_not();
      const Result plain = alone(world, *kernels, 5, breadth);
      // By one, by the spread of the distances, by more than any bound: the reference rules out the same.
      for (const float above : {1.0f, 3000.0f, 12000.0f, 1e6f}) {
        world.judge(above);
        const Result judged = alone(world, *kernels, 5, breadth);
        CHECK(judged == reference(world, *kernels, 5, breadth));
        CHECK(judged.found.size() <= plain.found.size()); // fewer only where it stops early
        for (const auto& [distance, node] : judged.found) {
          CHECK_EQ(distance, world.distance(*kernels, node));
        }
        lost += judged.found != plain.found;
        if (above == 1e6f) CHECK(judged.found != plain.found);
      }
    }
  }
  CHECK(lost != 0);
}

TEST(without_a_bound_nothing_is_ruled_out) {
  for (const Kernels* kernels : running()) {
    PartWorld world(33);
    world.judge(1e6f);
    const Result result = alone(world, *kernels, 7, {World::nodes, 2});
    CHECK_EQ(result.found.size(), std::size_t{World::limit});
    CHECK_EQ(result.computed, World::limit - 1);
    CHECK_EQ(result.hops, World::limit);
  }
}
