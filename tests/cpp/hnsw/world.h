// Random vectors, a brute-force oracle and access to the inside, for the tests of this folder.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "check.h"
#include "hnsw/impl.h"
#include "hnsw/index.h"

namespace embedcore::hnsw {

struct IndexTestPeer {
  static Index::Impl& impl(Index& index) { return *index.impl_; }
};

} // namespace embedcore::hnsw

namespace embedcore::test {

using hnsw::Index;
using hnsw::Metric;
using Vector = std::vector<float>;

// A way to keep vectors: a dtype and codes that go with it.
struct Kind {
  hnsw::Dtype dtype = hnsw::Dtype::float32;
  hnsw::Codes codes = hnsw::Codes::none;
};
inline constexpr Kind every_kind[] = {
    {hnsw::Dtype::float32, hnsw::Codes::none},  {hnsw::Dtype::float32, hnsw::Codes::int8},
    {hnsw::Dtype::float32, hnsw::Codes::int4},  {hnsw::Dtype::float16, hnsw::Codes::none},
    {hnsw::Dtype::float16, hnsw::Codes::int8},  {hnsw::Dtype::float16, hnsw::Codes::int4},
    {hnsw::Dtype::bfloat16, hnsw::Codes::none}, {hnsw::Dtype::bfloat16, hnsw::Codes::int8},
    {hnsw::Dtype::bfloat16, hnsw::Codes::int4}, {hnsw::Dtype::int8, hnsw::Codes::none},
    {hnsw::Dtype::int8, hnsw::Codes::int4},
};
inline constexpr Metric every_metric[] = {Metric::cosine, Metric::inner_product, Metric::l2};

inline Vector random_vector(std::mt19937& random, std::size_t dim) {
  std::normal_distribution<float> normal;
  Vector v(dim);
  for (float& x : v) x = normal(random);
  return v;
}

inline std::vector<float> random_rows(std::mt19937& random, std::size_t n, std::size_t dim) {
  return random_vector(random, n * dim);
}

inline std::vector<std::int64_t> numbered(std::int64_t first, std::size_t n) {
  std::vector<std::int64_t> ids(n);
  for (std::size_t i = 0; i < n; ++i) ids[i] = first + static_cast<std::int64_t>(i);
  return ids;
}

// The distance in double, straight from its definition.
inline double true_distance(Metric metric, const float* a, const float* b, std::size_t dim) {
  double dot = 0;
  double aa = 0;
  double bb = 0;
  double l2 = 0;
  for (std::size_t i = 0; i < dim; ++i) {
    const double x = a[i];
    const double y = b[i];
    dot += x * y;
    aa += x * x;
    bb += y * y;
    l2 += (x - y) * (x - y);
  }
  if (metric == Metric::cosine) return 1 - dot / std::sqrt(aa * bb);
  return metric == Metric::l2 ? l2 : 1 - dot;
}

inline std::shared_ptr<Index> make_index(std::uint32_t dim, Metric metric = Metric::cosine,
                                         std::uint32_t m = 8, std::uint64_t seed = 0, Kind kind = {}) {
  hnsw::Config config;
  config.dtype = kind.dtype;
  config.codes = kind.codes;
  config.dim = dim;
  config.metric = metric;
  config.m = m;
  config.ef_construction = 60;
  config.seed = seed;
  return Index::create(config).value();
}

// The values of an original of float32.
inline float* kept_floats(const hnsw::Storage& storage, hnsw::Slot slot) {
  return reinterpret_cast<float*>(storage.original(slot));
}

// What the index keeps of a vector.
inline Vector kept(const hnsw::Config& config, const float* vector) {
  const hnsw::Originals originals(config);
  std::vector<std::byte> row(originals.bytes());
  originals.store(vector, row.data());
  Vector back(config.dim);
  originals.load(row.data(), back.data());
  return back;
}

struct Found {
  std::vector<std::int64_t> ids;
  std::vector<float> distances;
};

inline Found search(const Index& index, const float* query, std::size_t k, std::size_t ef,
                    const hnsw::IdFilter* filter = nullptr) {
  Found found{std::vector<std::int64_t>(k), std::vector<float>(k)};
  const std::size_t n = index.search(query, k, ef, filter, found.ids.data(), found.distances.data());
  found.ids.resize(n);
  found.distances.resize(n);
  return found;
}

// What an index should hold.
class Oracle {
 public:
  Oracle(Metric metric, std::size_t dim) : metric_(metric), dim_(dim) {}
  std::map<std::int64_t, Vector> items;

  [[nodiscard]] std::vector<std::int64_t> nearest(const float* query, std::size_t k) const {
    std::vector<std::pair<double, std::int64_t>> all;
    for (const auto& [id, v] : items) all.emplace_back(true_distance(metric_, query, v.data(), dim_), id);
    std::sort(all.begin(), all.end());
    std::vector<std::int64_t> ids;
    for (std::size_t i = 0; i < std::min(k, all.size()); ++i) ids.push_back(all[i].second);
    return ids;
  }

  // Contents equal, invariants whole; every difference is a failed check.
  void expect_equal(const Index& index) const {
    std::vector<std::int64_t> ids;
    std::vector<float> expected;
    for (const auto& [id, v] : items) {
      ids.push_back(id);
      expected.insert(expected.end(), v.begin(), v.end());
    }
    CHECK_EQ(index.size(), items.size());
    CHECK(index.ids() == ids);
    std::vector<float> got(expected.size());
    CHECK(index.get(ids, got.data()).ok());
    CHECK(got == expected);
    for (const std::string& problem : index.check()) fail(__FILE__, __LINE__, problem);
  }

 private:
  Metric metric_;
  std::size_t dim_;
};

inline double recall(const std::vector<std::int64_t>& found, const std::vector<std::int64_t>& truth) {
  std::size_t hits = 0;
  for (const std::int64_t id : truth) hits += std::count(found.begin(), found.end(), id) != 0 ? 1u : 0u;
  return truth.empty() ? 1.0 : static_cast<double>(hits) / static_cast<double>(truth.size());
}

} // namespace embedcore::test
