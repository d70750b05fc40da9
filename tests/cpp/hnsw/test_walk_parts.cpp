// Walks that judge a row by its highest bits before they read the rest: what that may rule out, and what not.
#include "walk_world.h"

using namespace embedcore::hnsw;

namespace {

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

// For walks that judge by parts: with a full queue, with an early stop, with both.
constexpr Breadth part_breadths[] = {
    {1, 1}, {10, 1}, {64, 2}, {100, 4}, {100, 1, 10, 1}, {300, 2, 20, 1.1f}, {40, 4, 10, 1.02f}};

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

} // namespace

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
        CHECK(within_bound(judged, breadth) == within_bound(plain, breadth));
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
        if (breadth.rank == 0) CHECK_EQ(judged.found.size(), plain.found.size());
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
