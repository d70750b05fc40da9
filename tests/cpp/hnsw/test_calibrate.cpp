// The early stop in a place far denser than those that it was calibrated on.
#include <algorithm>
#include <cstddef>
#include <numeric>

#include "snapshot_seal.h"
#include "snapshot_world.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr std::size_t dim = 128;
constexpr std::size_t around = 1500;
constexpr std::size_t inside = 80;
constexpr std::size_t queries = 20;
constexpr std::size_t k = 10;

struct Place {
  std::shared_ptr<Index> index;
  std::vector<float> asked;
};

// The place lies around one of its members, to which many far ones link. Half of all items are replaced, a
// few at a time.
Place churned(Metric metric, std::uint32_t seed) {
  std::mt19937 random(seed);
  auto rows = random_rows(random, inside + around, dim);
  const Vector centre(rows.begin(), rows.begin() + dim);
  for (std::size_t i = 0; i < inside * dim; ++i) rows[i] = centre[i % dim] + 0.05f * rows[i];
  auto asked = random_rows(random, queries, dim);
  for (std::size_t i = 0; i < asked.size(); ++i) asked[i] = centre[i % dim] + 0.05f * asked[i];
  hnsw::Config config;
  config.dim = dim;
  config.metric = metric;
  config.codes = hnsw::Codes::int8;
  const auto index = Index::create(config).value();
  CHECK(index->add(numbered(0, inside + around), rows.data(), 1).ok());
  for (std::size_t i = 0; i < (inside + around) / 2; ++i) {
    const std::size_t id = random() % (inside + around);
    CHECK(index->add(numbered(static_cast<std::int64_t>(id), 1), &rows[id * dim], 1).ok());
  }
  index->compact(hnsw::Budget{});
  return {index, asked};
}

std::vector<std::int64_t> answers(const Place& place, std::size_t ef) {
  std::vector<std::int64_t> ids(queries * k);
  std::vector<float> distances(queries * k);
  place.index->search_many(place.asked.data(), queries, k, ef, nullptr, ids.data(), distances.data());
  return ids;
}

std::size_t shared(const std::vector<std::int64_t>& a, const std::vector<std::int64_t>& b) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto first = b.begin() + static_cast<std::ptrdiff_t>(i / k * k);
    n += std::find(first, first + k, a[i]) != first + k ? 1 : 0;
  }
  return n;
}

} // namespace

SLOW_TEST(a_small_dense_place_is_searched_beyond_its_edge) {
  std::size_t worst = queries * k; // found without the floor
  for (std::uint32_t seed = 0; seed < 4; ++seed) {
    const Place place = churned(Metric::cosine, seed);
    auto& impl = hnsw::IndexTestPeer::impl(*place.index);
    CHECK(impl.stop_exponent.load() > 0);
    const auto with = answers(place, 200);
    const auto all = answers(place, around + inside);
    const float floor = impl.stop_floor.exchange(0);
    const auto without = answers(place, 200);
    // Whoever asks for a quarter of all items and more has no stop, whatever the floor.
    CHECK(answers(place, around + inside) == all);
    CHECK(floor > 0.3f && floor < 1);
    CHECK(shared(with, all) >= queries * k * 99 / 100);
    worst = std::min(worst, shared(without, all));
  }
  CHECK(worst < queries * k * 95 / 100); // so that the floor is seen to matter
}

// Where distances crowd together, as in one cloud without structure, a stop that is right elsewhere comes far
// too soon; in what order the items came does not matter.
SLOW_TEST(the_stop_costs_next_to_no_recall_in_a_cloud) {
  constexpr std::size_t items = 4000;
  constexpr std::size_t dims = 64;
  constexpr std::size_t asked = 200;
  std::mt19937 random(5);
  const auto rows = random_rows(random, items, dims);
  const auto wanted = random_rows(random, asked, dims);
  for (const bool backwards : {false, true}) {
    std::vector<std::int64_t> order(items);
    std::iota(order.begin(), order.end(), std::int64_t{0});
    if (backwards) std::reverse(order.begin(), order.end());
    std::vector<float> ordered;
    for (const std::int64_t id : order) {
      const auto from = rows.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(id) * dims);
      ordered.insert(ordered.end(), from, from + dims);
    }
    hnsw::Config config;
    config.dim = dims;
    config.metric = Metric::l2;
    config.codes = hnsw::Codes::int8;
    const auto index = Index::create(config).value();
    CHECK(index->add(order, ordered.data(), 1).ok());
    const auto found = [&](std::size_t ef) {
      std::vector<std::int64_t> ids(asked * k);
      std::vector<float> distances(asked * k);
      index->search_many(wanted.data(), asked, k, ef, nullptr, ids.data(), distances.data());
      return ids;
    };
    const auto all = found(items); // which has no stop
    const auto right = [&] { return shared(found(100), all); };
    auto& impl = hnsw::IndexTestPeer::impl(*index);
    const std::size_t with = right();
    const float exponent = impl.stop_exponent.exchange(0);
    const std::size_t without = right();
    CHECK(exponent > 0);
    CHECK(with + asked * k / 100 >= without);
    impl.stop_exponent.store(exponent * 2 / 3); // so that the exponent is seen to matter
    CHECK(right() + asked * k / 50 < without);
  }
}

TEST(a_floor_of_the_stop_outlives_a_snapshot) {
  for (const hnsw::Codes codes : {hnsw::Codes::none, hnsw::Codes::int8}) {
    std::mt19937 random(3);
    const auto index = make_index(dim, Metric::cosine, 8, 0, {hnsw::Dtype::float32, codes});
    CHECK(index->add(numbered(0, 1200), random_rows(random, 1200, dim).data(), 1).ok());
    auto& impl = hnsw::IndexTestPeer::impl(*index);
    impl.stop_exponent.store(0.05f);
    index->set_tag({std::string(4000, 'x'), 7});
    const Folder folder;
    for (const float floor : {0.5f, 0.0f}) {
      impl.stop_floor.store(floor);
      CHECK(index->save(folder.file("saved")).ok());
      const std::string bytes = bytes_of(folder.file("saved"));
      const std::uint32_t plain = impl.glance.limits()[0].slope == 0 ? 3 : 5;
      CHECK_EQ(header_of(bytes).version, floor == 0 ? plain : 6u);
      for (const bool mapped : {false, true}) {
        const auto loaded = Index::load(folder.file("saved"), mapped);
        CHECK(loaded.ok());
        if (!loaded.ok()) continue;
        const auto& x = hnsw::IndexTestPeer::impl(*loaded.value());
        CHECK_EQ(x.stop_floor.load(), floor);
        CHECK_EQ(x.stop_exponent.load(), 0.05f);
        CHECK_EQ(loaded.value()->tag().fingerprint, std::string(4000, 'x'));
      }
    }
    // A floor that is no number is damage.
    impl.stop_floor.store(0.5f);
    CHECK(index->save(folder.file("saved")).ok());
    std::string bytes = bytes_of(folder.file("saved"));
    for (std::size_t i = 0; i < 4; ++i) bytes[offsetof(hnsw::snapshot::Header, stop_floor) + i] = '\xff';
    seal(bytes);
    write(folder.file("bad"), bytes);
    CHECK(!Index::load(folder.file("bad")).ok());
  }
}
