// The kernels of the way down above level 0, each against the plain one below.
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "kernel_rows.h"

using namespace embedcore;
using namespace embedcore::hnsw;

namespace {

constexpr std::uint32_t nodes = 200;
constexpr std::uint32_t top = 3;

// A random graph on the levels 1 to 3; a third of the places for links is empty, and every fifth link is
// marked.
struct Levels {
  Levels(Form form, Sum sum, std::size_t places, std::mt19937& random)
      : rows(form, 128, nodes), query(form, sum, 128), count(places), links(nodes * top * places) {
    rows.fill(random);
    query.fill(random);
    runs.resize(3 * nodes);
    for (std::uint32_t node = 0; node < nodes; ++node) runs[3 * node] = node * top;
    for (std::uint32_t node = 0; node < nodes; ++node) {
      for (std::size_t i = 0; i < top * places; ++i) {
        const auto to = static_cast<std::uint32_t>(random() % nodes);
        const std::uint32_t marked = random() % 5 == 0 ? to | 1u << 31 : to;
        links[node * top * places + i] = random() % 3 == 0 ? ~0u : marked;
      }
    }
  }
  [[nodiscard]] std::vector<std::uint32_t> linked(std::uint32_t node, std::uint32_t level) const {
    std::vector<std::uint32_t> to;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t word = links[(node * top + level - 1) * count + i];
      if (word != ~0u) to.push_back(word & ~(1u << 31));
    }
    return to;
  }
  [[nodiscard]] Descent begin(std::uint32_t from, float distance, std::uint32_t level,
                              std::uint32_t last) const {
    Descent d{};
    d.measure = measure_of(query, rows);
    d.lines = 1;
    d.links = links.data();
    d.count = count;
    d.first_runs = reinterpret_cast<const std::byte*>(runs.data());
    d.run_stride = 3 * sizeof(std::uint32_t);
    d.blocks = rows.row(0);
    d.block_bytes = rows.stride;
    d.block_lines = 1;
    d.level = level;
    d.last = last;
    d.slot = from;
    d.distance = distance;
    return d;
  }

  Rows rows;
  Query query;
  std::size_t count;
  std::vector<std::uint32_t> links;
  std::vector<std::uint32_t> runs;
};

} // namespace

TEST(a_way_down_goes_to_the_nearest_link_as_long_as_one_is_nearer) {
  std::mt19937 random(41);
  for (const Form form : every_form) {
    for (const Sum sum : every_sum) {
      for (const std::size_t places : {1u, 5u, 16u, 40u, 130u}) {
        const Levels graph(form, sum, places, random);
        for (const Kernels* kernels : running()) {
          std::vector<std::uint32_t> all(nodes);
          std::iota(all.begin(), all.end(), 0u);
          std::vector<float> distances(nodes);
          const auto measure = kernels->measure[index_of(form)][index_of(sum)];
          measure(measure_of(graph.query, graph.rows), all.data(), nodes, distances.data());
          for (std::uint32_t from = 0; from < nodes; from += 23) {
            for (const std::uint32_t last : {0u, 1u, top}) {
              std::uint32_t at = from;
              std::uint64_t hops = 0;
              std::uint64_t computed = 0;
              for (std::uint32_t level = top; level > last; --level) {
                for (bool moved = true; moved;) {
                  moved = false;
                  ++hops;
                  const std::uint32_t here = at;
                  for (const std::uint32_t to : graph.linked(here, level)) {
                    ++computed;
                    if (!(distances[to] < distances[at])) continue;
                    at = to;
                    moved = true;
                  }
                }
              }
              Descent d = graph.begin(from, distances[from], top, last);
              kernels->descend[index_of(form)][index_of(sum)](d);
              CHECK_EQ(d.slot, at);
              CHECK_EQ(d.distance, distances[at]);
              CHECK_EQ(d.level, last);
              CHECK_EQ(d.hops, hops);
              CHECK_EQ(d.computed, computed);
            }
          }
        }
      }
    }
  }
}

// An estimate that lies far above every distance rules all nodes out, one far below none.
TEST(a_way_down_does_not_look_at_what_the_highest_bits_rule_out) {
  std::mt19937 random(42);
  const Levels graph(Form::u4, Sum::dot, 16, random);
  const Measure m = measure_of(graph.query, graph.rows);
  for (const Kernels* kernels : running()) {
    std::size_t moved = 0;
    for (std::uint32_t from = 0; from < nodes; from += 23) {
      float distance = 0;
      kernels->measure[index_of(Form::u4)][index_of(Sum::dot)](m, &from, 1, &distance);
      const auto end = [&](float part_offset) {
        Descent d = graph.begin(from, distance, top, 0);
        d.measure.part_scale = -1;
        d.measure.part_offset = part_offset;
        kernels->descend[index_of(Form::u4)][index_of(Sum::dot)](d);
        return d.slot;
      };
      CHECK_EQ(end(1e9f), from);
      Descent plain = graph.begin(from, distance, top, 0);
      kernels->descend[index_of(Form::u4)][index_of(Sum::dot)](plain);
      CHECK_EQ(end(-1e9f), plain.slot);
      moved += plain.slot != from ? 1u : 0u;
    }
    CHECK(moved != 0);
  }
}
