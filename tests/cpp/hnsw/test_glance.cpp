// Partial distances: what is fitted, that walks give up only rows that do not matter, and that the limits
// outlive a snapshot.
#include "hnsw/glance.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "snapshot_seal.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 256;
constexpr std::size_t n = 3000;
constexpr std::size_t queries = 100;
constexpr std::size_t k = 10;

// Forty loose clusters.
std::vector<float> clusters(std::uint32_t seed, std::size_t count) {
  std::mt19937 centre_random(5);
  const std::vector<float> centres = random_rows(centre_random, 40, dim);
  std::mt19937 random(seed);
  std::vector<float> rows = random_rows(random, count, dim);
  for (std::size_t i = 0; i < count; ++i) {
    const float* centre = &centres[i % 40 * dim];
    for (std::size_t j = 0; j < dim; ++j) rows[i * dim + j] += centre[j];
  }
  return rows;
}

std::shared_ptr<Index> filled(Metric metric, Kind kind) {
  auto index = make_index(dim, metric, 12, 3, kind);
  const auto rows = clusters(7, n);
  CHECK(index->add(numbered(0, n), rows.data(), 1).ok());
  return index;
}

struct Answers {
  std::vector<std::int64_t> ids;
  std::vector<float> distances;
};
Answers ask(const Index& index, std::size_t ef) {
  const auto asked = clusters(11, queries);
  Answers a{std::vector<std::int64_t>(queries * k), std::vector<float>(queries * k)};
  index.search_many(asked.data(), queries, k, ef, nullptr, a.ids.data(), a.distances.data(), nullptr);
  return a;
}
std::size_t shared(const Answers& a, const Answers& b) {
  std::size_t count = 0;
  for (std::size_t q = 0; q < queries; ++q) {
    const auto first = b.ids.begin() + static_cast<std::ptrdiff_t>(q * k);
    for (std::size_t i = 0; i < k; ++i)
      count += std::find(first, first + k, a.ids[q * k + i]) != first + k ? 1 : 0;
  }
  return count;
}

const Kind float_kinds[] = {{hnsw::Dtype::float32, hnsw::Codes::none},
                            {hnsw::Dtype::float16, hnsw::Codes::none},
                            {hnsw::Dtype::bfloat16, hnsw::Codes::none}};

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

} // namespace

TEST(glance_fits_a_line_and_its_error) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  hnsw::PartFit fit;
  for (int i = 0; i < 200000; ++i) {
    const double part = 0.7 + 0.1 * normal(random);
    const double own = 0.4 + 0.05 * normal(random);
    fit.add(part, own, 0.5 * part + 0.3 - 0.2 * own + 0.02 * normal(random));
  }
  const hnsw::PartLimit limit = fit.limit(false, 2);
  // Given up above (bound - 0.3 + 0.2 own + 2 * 0.02) / 0.5.
  CHECK(std::abs(limit.own - 0.4f) < 0.01f);
  CHECK(std::abs(limit.slope - 2.0f) < 0.02f);
  CHECK(std::abs(limit.slope * 0.6f + limit.shift - 0.68f) < 0.01f);
}

TEST(glance_is_for_queries_like_those_it_was_measured_with) {
  const hnsw::Kernels& kernels = *hnsw::IndexTestPeer::impl(*make_index(dim)).kernels;
  hnsw::Glance glance;
  hnsw::Glance::Limits limits{};
  limits[0] = {2, 0.5f, -1, 0.3f, 0.7f, 0};
  glance.set(limits);
  const auto lent = [&](float head, float tail) {
    Vector query(dim, head);
    std::fill(query.begin() + dim / 2, query.end(), tail);
    hnsw::Walk walk{};
    glance.lend(kernels, query.data(), dim, 4, walk);
    return walk;
  };
  const hnsw::Walk even = lent(1, 1);
  CHECK_EQ(even.part_dims, std::size_t{128});
  CHECK_EQ(even.part_lines, std::size_t{8});
  CHECK(std::abs(even.part_shifts[0] - (0.5f - 0.5f)) < 1e-6f);
  CHECK_EQ(lent(1, 0).part_dims, std::size_t{0}); // all of it in the first part
  CHECK_EQ(lent(0, 1).part_dims, std::size_t{0});
  CHECK_EQ(lent(0, 0).part_dims, std::size_t{0});
  glance.off();
  CHECK_EQ(lent(1, 1).part_dims, std::size_t{0});
}

// Queries that are zero where vectors go on: what their first dimensions say is all there is to say.
SLOW_TEST(searches_for_strangers_lose_nothing) {
  for (const Metric metric : {Metric::cosine, Metric::l2}) {
    const auto index = filled(metric, float_kinds[0]);
    auto& impl = hnsw::IndexTestPeer::impl(*index);
    CHECK(impl.glance.limits()[0].slope > 0);
    auto asked = clusters(11, queries);
    for (std::size_t i = 0; i < asked.size(); ++i) asked[i] = i % dim < dim / 2 ? asked[i] : 0;
    const auto answers = [&] {
      std::vector<std::int64_t> ids(queries * k);
      std::vector<float> distances(queries * k);
      index->search_many(asked.data(), queries, k, 60, nullptr, ids.data(), distances.data(), nullptr);
      return ids;
    };
    const auto with = answers();
    impl.glance.off();
    CHECK(with == answers());
  }
}

// Distances inside are a twentieth of those around: there all rows look too far.
SLOW_TEST(searches_in_a_small_dense_place_lose_nothing) {
  constexpr std::size_t d = 128;
  constexpr std::size_t around = 6000;
  constexpr std::size_t inside = 90;
  std::size_t worst = queries * k; // found without floors
  for (std::uint32_t seed = 0; seed < 3; ++seed) {
    std::mt19937 random(seed);
    auto rows = random_rows(random, around, d);
    const Vector place = random_vector(random, d);
    auto dense = random_rows(random, inside + queries, d);
    for (std::size_t i = 0; i < dense.size(); ++i) dense[i] = place[i % d] + 0.05f * dense[i];
    rows.insert(rows.end(), dense.begin(), dense.begin() + inside * d);
    const auto index = make_index(d, Metric::cosine, 16, 0, float_kinds[0]);
    CHECK(index->add(numbered(0, around), rows.data(), 1).ok()); // calibrated before there is the place
    CHECK(index->add(numbered(around, inside), &rows[around * d], 1).ok());
    auto& impl = hnsw::IndexTestPeer::impl(*index);
    impl.stop_exponent.store(0); // whose queue would be longer than the place is large
    hnsw::Glance::Limits limits = impl.glance.limits();
    const auto answers = [&] {
      Answers found{std::vector<std::int64_t>(queries * k), std::vector<float>(queries * k)};
      index->search_many(&dense[inside * d], queries, k, 60, nullptr, found.ids.data(),
                         found.distances.data(), nullptr);
      return found;
    };
    const Answers with = answers();
    for (hnsw::PartLimit& limit : limits) limit.floor = 0;
    impl.glance.set(limits);
    const Answers bare = answers();
    impl.glance.off();
    const Answers without = answers();
    CHECK(shared(with, without) >= queries * k * 99 / 100);
    worst = std::min(worst, shared(bare, without));
  }
  CHECK(worst < queries * k * 95 / 100); // so that floors are seen to matter
}

TEST(glance_takes_a_share_of_squares_and_never_more_than_all) {
  std::mt19937 random(2);
  std::normal_distribution<double> normal;
  hnsw::PartFit fit;
  hnsw::PartFit late;
  for (int i = 0; i < 100000; ++i) {
    fit.add((0.25 + 0.02 * normal(random)) * 100, 0.5, 100);
    late.add((0.95 + 0.05 * normal(random)) * 3, 0.5, 3);
  }
  CHECK(std::abs(fit.limit(true, 2).slope - 0.29f) < 0.005f);
  CHECK_EQ(fit.limit(true, 2).shift, 0.0f);
  CHECK_EQ(late.limit(true, 2).slope, 1.0f);
}

TEST(glance_makes_no_limit_of_too_little) {
  hnsw::PartFit few;
  hnsw::PartFit unrelated;
  hnsw::PartFit same;
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  for (int i = 0; i < 100; ++i) few.add(i, 0.5, i);
  for (int i = 0; i < 10000; ++i) {
    unrelated.add(normal(random), 0.5, normal(random));
    same.add(0.5, 0.5, 0.7);
  }
  CHECK_EQ(few.limit(false, 2).slope, 0.0f);
  CHECK_EQ(few.limit(true, 2).slope, 0.0f);
  CHECK_EQ(unrelated.limit(false, 2).slope, 0.0f);
  CHECK_EQ(same.limit(false, 2).slope, 0.0f);
}

TEST(glance_parts_cover_all_dimensions_with_few_limits) {
  for (std::size_t d = 1; d <= 65535; ++d) {
    const std::size_t part = hnsw::Glance::part_dims(d);
    const std::size_t count = hnsw::Glance::count(d);
    CHECK(count <= hnsw::most_part_limits);
    CHECK(part == 0 ? d < 128 && count == 0 : part % 64 == 0 && count * part < d && (count + 1) * part >= d);
  }
}

SLOW_TEST(searches_that_give_rows_up_find_the_same) {
  for (const Kind kind : float_kinds) {
    for (const Metric metric : {Metric::cosine, Metric::l2}) {
      const auto index = filled(metric, kind);
      auto& impl = hnsw::IndexTestPeer::impl(*index);
      const hnsw::Glance::Limits limits = impl.glance.limits();
      CHECK(limits[0].slope > 0);
      CHECK_EQ(limits[hnsw::Glance::count(dim)].slope, 0.0f);
      const Answers with = ask(*index, 60);
      impl.glance.off();
      const Answers without = ask(*index, 60);
      CHECK(shared(with, without) >= queries * k * 99 / 100);
      // Distances are those of whole rows, whatever order they were summed in.
      const auto asked = clusters(11, queries);
      for (std::size_t q = 0; q < queries; ++q) {
        std::vector<float> scores(k);
        index->scores(&asked[q * dim], std::span(with.ids).subspan(q * k, k), scores.data());
        for (std::size_t i = 0; i < k; ++i)
          CHECK(std::abs(scores[i] - with.distances[q * k + i]) <= 1e-5f * (1 + std::abs(scores[i])));
      }
      // That limits are heeded: such that give nearly everything up lose most of it.
      hnsw::Glance::Limits all{};
      all.fill({1e-3f, -1.0f, 0, 0, 1, 0});
      impl.glance.set(all);
      CHECK(shared(ask(*index, 60), without) < queries * k / 2);
    }
  }
}

TEST(glance_is_for_walks_over_floats_only) {
  const Kind others[] = {{hnsw::Dtype::float32, hnsw::Codes::int8},
                         {hnsw::Dtype::float16, hnsw::Codes::int4},
                         {hnsw::Dtype::int8, hnsw::Codes::none}};
  for (const Kind kind : others) {
    const auto index = filled(Metric::cosine, kind);
    CHECK_EQ(hnsw::IndexTestPeer::impl(*index).glance.limits()[0].slope, 0.0f);
  }
}

TEST(glance_outlives_a_snapshot) {
  const auto index = filled(Metric::cosine, float_kinds[0]);
  const std::string path = std::filesystem::temp_directory_path() / "embedcore-glance.ecx";
  CHECK(index->save(path).ok());
  std::string bytes = contents(path);
  CHECK_EQ(header_of(bytes).version, 6u);
  CHECK_EQ(header_of(bytes).part_limits, 1u);
  const Answers before = ask(*index, 40);
  for (const bool mapped : {false, true}) {
    const auto loaded = Index::load(path, mapped);
    CHECK(loaded.ok());
    const Answers after = ask(*loaded.value(), 40);
    CHECK(before.ids == after.ids && before.distances == after.distances);
  }

  const std::uint64_t at = hnsw::snapshot::Layout(header_of(bytes)).sections[hnsw::snapshot::mean].at;
  const auto refused = [&](std::string changed) {
    CHECK(seal(changed));
    std::ofstream(path, std::ios::binary).write(changed.data(), static_cast<std::streamsize>(changed.size()));
    return !Index::load(path).ok();
  };
  CHECK(!refused(bytes));
  for (const float bad :
       {-1.0f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::string changed = bytes;
    std::memcpy(&changed[at], &bad, sizeof(bad));
    CHECK(refused(changed));
  }
  for (const std::size_t field :
       {offsetof(hnsw::snapshot::Header, version), offsetof(hnsw::snapshot::Header, part_limits)}) {
    std::string changed = bytes;
    changed[field] = static_cast<char>(field == 8 ? 3 : 2);
    CHECK(refused(changed)); // limits that version 3 does not have; more than there are parts
  }
  std::filesystem::remove(path);
}
