// Small indexes with known vectors, tables over them, and the exact answer computed by hand: what the
// tests of this folder share.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "serving/router.h"

namespace embedcore::test {

using Vectors = std::map<std::int64_t, std::vector<float>>;

inline std::vector<float> random_vector(std::mt19937_64& generator, std::size_t dim) {
  std::normal_distribution<float> normal;
  std::vector<float> v(dim);
  for (float& x : v) x = normal(generator);
  return v;
}

inline Vectors random_vectors(std::size_t n, std::size_t dim, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  Vectors out;
  for (std::size_t i = 0; i < n; ++i) out[static_cast<std::int64_t>(i)] = random_vector(generator, dim);
  return out;
}

inline std::shared_ptr<hnsw::Index> index_of(const Vectors& vectors, std::size_t dim) {
  hnsw::Config config;
  config.dim = static_cast<std::uint32_t>(dim);
  auto index = hnsw::Index::create(config);
  CHECK(index.ok());
  for (const auto& [id, vector] : vectors) CHECK(index.value()->add({&id, 1}, vector.data(), 1).ok());
  return index.value();
}

// Items spread over shards by the low bits of the id, standing in for the item hash.
inline serving::Generation generation_of(std::int64_t number, const Vectors& vectors, std::size_t dim,
                                         std::size_t shards = 1) {
  std::vector<Vectors> parts(shards);
  for (const auto& [id, vector] : vectors) parts[static_cast<std::size_t>(id) % shards][id] = vector;
  serving::Generation generation{number, {}};
  for (const Vectors& part : parts) generation.shards.push_back(index_of(part, dim));
  return generation;
}

inline double cosine_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double dot = 0;
  double aa = 0;
  double bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    dot += double(a[i]) * b[i];
    aa += double(a[i]) * a[i];
    bb += double(b[i]) * b[i];
  }
  return 1 - dot / std::sqrt(aa * bb);
}

struct Near {
  double distance;
  std::int64_t id;
  bool operator<(const Near& other) const {
    return distance < other.distance || (distance == other.distance && id < other.id);
  }
};

inline std::vector<Near> nearest(const Vectors& vectors, const std::vector<float>& query, std::size_t k) {
  std::vector<Near> all;
  for (const auto& [id, vector] : vectors) all.push_back({cosine_distance(query, vector), id});
  std::sort(all.begin(), all.end());
  all.resize(std::min(k, all.size()));
  return all;
}

// The protocol's rule for 0 < w < 1, read literally: every item of either exact list, scored on each side
// that holds it.
inline std::vector<Near> blended_nearest(const Vectors& source, const std::vector<float>& source_query,
                                         const Vectors& target, const std::vector<float>& target_query,
                                         double weight, const dualwrite::ScoreCalibration* calibration,
                                         std::size_t k) {
  std::map<std::int64_t, double> scored;
  auto candidates = nearest(source, source_query, k);
  for (const Near& n : nearest(target, target_query, k)) candidates.push_back(n);
  for (const Near& candidate : candidates) {
    const auto old_item = source.find(candidate.id);
    const auto new_item = target.find(candidate.id);
    double old_score = old_item == source.end() ? 0 : cosine_distance(source_query, old_item->second);
    if (calibration != nullptr) old_score = (*calibration)(old_score);
    const double new_score = new_item == target.end() ? 0 : cosine_distance(target_query, new_item->second);
    scored[candidate.id] = old_item == source.end()   ? new_score
                           : new_item == target.end() ? old_score
                                                      : (1 - weight) * old_score + weight * new_score;
  }
  std::vector<Near> out;
  for (const auto& [id, distance] : scored) out.push_back({distance, id});
  std::sort(out.begin(), out.end());
  out.resize(std::min(k, out.size()));
  return out;
}

inline void check_answer(const serving::Answer& answer, const std::vector<Near>& expected) {
  CHECK_EQ(answer.ids.size(), expected.size());
  CHECK_EQ(answer.ids.size(), answer.distances.size());
  for (std::size_t i = 0; i < std::min(answer.ids.size(), expected.size()); ++i) {
    CHECK_EQ(answer.ids[i], expected[i].id);
    CHECK(std::abs(double(answer.distances[i]) - expected[i].distance) < 1e-5);
  }
}

inline serving::Consumer consumer_of(std::int32_t source, std::int32_t target, double weight,
                                     std::size_t generations) {
  serving::Consumer consumer;
  consumer.source = source;
  consumer.target = target;
  consumer.weight = weight;
  consumer.ef_search.assign(generations, 1000); // above every size used here: searches are exact
  return consumer;
}

// A clock that moves by 1 ns each time it is read: a deadline of n is passed at the n-th reading.
inline std::atomic<std::uint64_t>& ticks() {
  static std::atomic<std::uint64_t> count{0};
  return count;
}
inline std::uint64_t ticking_clock() { return ticks().fetch_add(1) + 1; }

} // namespace embedcore::test
