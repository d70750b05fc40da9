// A random graph to walk on, a best-first search out of the standard library to compare with, and a walk with
// memory of its own, each array as short as its contract allows.
#pragma once

#include <algorithm>
#include <queue>
#include <set>
#include <tuple>
#include <utility>

#include "check.h"
#include "kernel_rows.h"

namespace embedcore::hnsw {

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

// Of two nodes at the same distance the one met first counts as nearer.
using Entry = std::tuple<float, std::size_t, std::uint32_t>; // distance, how many were met before, node
inline float distance_of(const Entry& entry) { return std::get<float>(entry); }

// A best-first search as a walk does it: sixteen nodes at a time are held against one bound.
inline Result reference(const World& world, const Kernels& kernels, std::uint32_t start,
                        const Breadth& breadth, std::size_t* ruled_out = nullptr) {
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
  const auto meet = [&](std::uint32_t node, float limit) {
    const Entry entry{world.distance(kernels, node), met++, node};
    if (!(distance_of(entry) < limit)) return;
    best.insert(entry);
    candidates.push(entry);
    if (best.size() > breadth.capacity) best.erase(std::prev(best.end()));
  };
  seen.insert(start);
  meet(start, inf);
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
    const std::size_t out =
        std::erase_if(fresh, [&](std::uint32_t node) { return !(world.estimate(node) < before); });
    met += out;
    if (ruled_out != nullptr) *ruled_out += out;
    float limit = before;
    for (std::size_t i = 0; i < fresh.size(); ++i) {
      if (i % 16 == 0) limit = bound();
      meet(fresh[i], limit);
    }
  }
  result.computed = met - 1; // the start's distance is given
  for (const Entry& entry : best)
    result.found.emplace_back(distance_of(entry), std::get<std::uint32_t>(entry));
  return result;
}

// What a walk kept is more than this where nodes were held against a bound that has fallen since, and which
// ones depends on what they stood beside.
inline Result within_bound(Result result, const Breadth& breadth) {
  if (breadth.rank == 0 || result.found.size() < breadth.rank) return result;
  const float bound = breadth.stretch * result.found[breadth.rank - 1].first;
  std::erase_if(result.found, [&](const auto& found) { return found.first > bound; });
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

inline std::size_t go_on(const Kernels& kernels, const World& world, std::vector<Walk*>& walks) {
  return kernels.walk[index_of(world.rows.form)][index_of(world.sum)](walks.data(), walks.size());
}

constexpr std::size_t roomy = 2 * World::nodes + 4 * World::links;
constexpr std::size_t least_log(const Breadth& b) { return 2 * b.beam * World::links; }

inline Result alone(const World& world, const Kernels& kernels, std::uint32_t start, const Breadth& breadth) {
  Run run(world, kernels, start, breadth, roomy);
  std::vector<Walk*> walks{&run.walk};
  CHECK_EQ(go_on(kernels, world, walks), 0u);
  CHECK(!run.walk.overflowed);
  return run.result();
}

} // namespace embedcore::hnsw
