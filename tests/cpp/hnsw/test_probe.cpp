// Distances as probes give them, in every dtype, with every kind of codes and metric, against double. The
// tolerance is what rounding to the dtype, to codes and of the query may cost.
#include "hnsw/probe.h"

#include "world.h"

using namespace embedcore;
using namespace embedcore::hnsw;
using namespace embedcore::test;

namespace {

double norm(const Vector& v) {
  double squares = 0;
  for (const float x : v) squares += static_cast<double>(x) * x;
  return std::sqrt(squares);
}

Vector scaled(Vector v, double by) {
  for (float& x : v) x = static_cast<float>(x * by);
  return v;
}

// Enough items for codes; what was given and what is kept, by slot, which is the id here.
struct World {
  static constexpr std::size_t items = 300;
  World(std::uint32_t dim, Metric metric, Kind kind, std::mt19937& random)
      : index(make_index(dim, metric, 4, 0, kind)), x(IndexTestPeer::impl(*index)) {
    const auto rows = random_rows(random, items, dim);
    CHECK(index->add(numbered(0, items), rows.data(), 1).ok());
    CHECK_EQ(x.space.codec.load() != nullptr, kind.codes != Codes::none);
    for (std::size_t i = 0; i < items; ++i) {
      CHECK_EQ(x.storage.node(static_cast<Slot>(i)).id, static_cast<std::int64_t>(i));
      given.emplace_back(&rows[i * dim], &rows[i * dim] + dim);
      held.push_back(kept(index->config(), given.back().data()));
    }
  }
  [[nodiscard]] Metric metric() const { return index->config().metric; }
  [[nodiscard]] std::size_t dim() const { return index->config().dim; }
  [[nodiscard]] double truth(const Vector& a, const Vector& b) const {
    return true_distance(metric(), a.data(), b.data(), dim());
  }
  // The size of what a distance is computed from: of unit length under cosine.
  [[nodiscard]] double size(const Vector& v) const { return metric() == Metric::cosine ? 1.0 : norm(v); }
  // How far a distance between a and b may be off when they are moved by these lengths.
  [[nodiscard]] double moved(const Vector& a, double by_a, const Vector& b, double by_b) const {
    const double products = size(a) * by_b + size(b) * by_a + by_a * by_b;
    if (metric() != Metric::l2) return products;
    const double apart = std::sqrt(true_distance(Metric::l2, a.data(), b.data(), dim()));
    return 2 * apart * (by_a + by_b) + (by_a + by_b) * (by_a + by_b);
  }
  // Of sums in float32, of magnitude |a| |b| or (|a| + |b|)^2.
  [[nodiscard]] double rounding(const Vector& a, const Vector& b) const {
    const double sizes = size(a) + size(b);
    return 2e-6 * (1 + sizes * sizes);
  }
  // How far a code may lie from its vector. Codes have the error that training reports; one vector may
  // have twice that.
  [[nodiscard]] double coarse() const {
    const Codec* codec = x.space.codec.load();
    return codec == nullptr ? 0.0 : 2 * codec->values().error * std::sqrt(static_cast<double>(dim()));
  }
  // How far a query may move when it is rounded to bytes.
  [[nodiscard]] double query_rounding(const Vector& query) const {
    const Codec* codec = x.space.codec.load();
    if (codec == nullptr && !x.space.lean) return 0;
    double step = 0; // of the query's own grid, or of the codes'
    for (const float v : query) step = std::max(step, std::abs(static_cast<double>(v)) / 127);
    if (metric() == Metric::cosine) step /= norm(query);
    if (codec != nullptr && metric() == Metric::l2)
      return coarse() + 0.51 * codec->values().step * std::sqrt(static_cast<double>(dim()));
    return 0.51 * step * std::sqrt(static_cast<double>(dim()));
  }

  std::shared_ptr<Index> index;
  Index::Impl& x;
  std::vector<Vector> given;
  std::vector<Vector> held;
};

template <class Check>
void for_each_world(std::uint32_t seed, Check check) {
  std::mt19937 random(seed);
  for (const Kind kind : every_kind) {
    for (const Metric metric : every_metric) {
      for (const std::uint32_t dim : {20u, 100u}) check(World(dim, metric, kind, random), random);
    }
  }
}

double relative_error(Dtype dtype) { // of one kept value
  switch (dtype) {
    case Dtype::float16:
      return 0x1p-11;
    case Dtype::bfloat16:
      return 0x1p-8;
    default:
      return 0;
  }
}

} // namespace

SLOW_TEST(an_exact_probe_measures_what_was_kept) {
  for_each_world(111, [](const World& w, std::mt19937& random) {
    for (int q = 0; q < 5; ++q) {
      const Vector query = random_vector(random, w.dim());
      Vector buffer;
      const Probe probe = Probe::exact(w.x.space, unit_length(w.x.space, query.data(), buffer));
      for (Slot slot = 0; slot < World::items; slot += 7) {
        const double got = probe.to(slot);
        CHECK(std::abs(got - w.truth(query, w.held[slot])) <= w.rounding(query, w.held[slot]));
        // And what was given, as far as the dtype holds it.
        const Vector& given = w.given[slot];
        double off = relative_error(w.index->config().dtype) * norm(given);
        if (w.index->config().dtype == Dtype::int8) {
          double largest = 0;
          for (const float v : given) largest = std::max(largest, std::abs(static_cast<double>(v)));
          off = 0.51 * largest / 127 * std::sqrt(static_cast<double>(w.dim()));
        }
        if (w.metric() == Metric::cosine) off = 2 * off / norm(given); // and its length changes
        CHECK(std::abs(got - w.truth(query, given)) <=
              w.moved(query, 0, given, off) + w.rounding(query, given));
      }
    }
  });
}

SLOW_TEST(a_walking_probe_is_as_near_as_codes_are) {
  for_each_world(112, [](const World& w, std::mt19937& random) {
    ProbeBuffer bytes;
    for (int q = 0; q < 5; ++q) {
      const Vector query = random_vector(random, w.dim());
      Vector buffer;
      const float* unit = unit_length(w.x.space, query.data(), buffer);
      const Codec* codec = w.x.space.codec.load();
      const Probe walking = Probe::walking(w.x.space, codec, unit, bytes);
      const Probe exact = Probe::exact(w.x.space, unit);
      for (Slot slot = 0; slot < World::items; slot += 7) {
        const double off = w.moved(query, w.query_rounding(query), w.held[slot], w.coarse());
        CHECK(std::abs(walking.to(slot) - w.truth(query, w.held[slot])) <=
              off + w.rounding(query, w.held[slot]));
        if (codec == nullptr && !w.x.space.lean) CHECK_EQ(walking.to(slot), exact.to(slot));
      }
    }
  });
}

SLOW_TEST(between_stored_vectors_distances_are_symmetric_and_as_near_as_codes_are) {
  for_each_world(113, [](const World& w, std::mt19937&) {
    ProbeBuffer buffer_a;
    ProbeBuffer buffer_b;
    for (Slot a = 0; a < World::items; a += 29) {
      const Probe from_a = Probe::between(w.x.space, a, buffer_a);
      for (Slot b = 0; b < World::items; b += 17) {
        const Probe from_b = Probe::between(w.x.space, b, buffer_b);
        const double got = from_a.to(b);
        const double off = w.moved(w.held[a], w.coarse(), w.held[b], w.coarse());
        const double rounding = w.rounding(w.held[a], w.held[b]);
        CHECK(std::abs(got - w.truth(w.held[a], w.held[b])) <= off + rounding);
        CHECK(std::abs(got - from_b.to(a)) <= 2 * rounding);
        if (a == b && w.metric() != Metric::inner_product) CHECK(std::abs(got) <= rounding);
      }
    }
  });
}

SLOW_TEST(many_distances_at_once_are_the_same_as_one_by_one) {
  for_each_world(114, [](const World& w, std::mt19937& random) {
    const Vector query = random_vector(random, w.dim());
    Vector buffer;
    ProbeBuffer bytes;
    ProbeBuffer own;
    const float* unit = unit_length(w.x.space, query.data(), buffer);
    const Probe probes[] = {Probe::exact(w.x.space, unit),
                            Probe::walking(w.x.space, w.x.space.codec.load(), unit, bytes),
                            Probe::between(w.x.space, 11, own)};
    std::vector<Slot> slots;
    for (int i = 0; i < 37; ++i) slots.push_back(static_cast<Slot>(random() % World::items));
    for (const Probe& probe : probes) {
      std::vector<float> distances(slots.size());
      probe.to(slots.data(), slots.size(), distances.data());
      for (std::size_t i = 0; i < slots.size(); ++i) CHECK_EQ(distances[i], probe.to(slots[i]));
    }
  });
}

TEST(a_query_is_brought_to_unit_length_however_long_it_is) {
  std::mt19937 random(115);
  const auto index = make_index(50);
  const Space& space = IndexTestPeer::impl(*index).space;
  for (const double length : {1e-25, 1e-12, 1.0, 1e12, 1e17}) {
    const Vector v = random_vector(random, 50);
    const Vector query = scaled(v, length / norm(v));
    Vector buffer;
    const float* unit = unit_length(space, query.data(), buffer);
    CHECK(std::abs(norm(Vector(unit, unit + 50)) - 1) < 1e-6);
  }
  const auto plain = make_index(50, Metric::l2);
  const Vector query = random_vector(random, 50);
  Vector buffer;
  CHECK(unit_length(IndexTestPeer::impl(*plain).space, query.data(), buffer) == query.data());
}
