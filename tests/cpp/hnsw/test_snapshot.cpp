// Snapshots: what is saved comes back whole; files of every older version load.
#include "hnsw/snapshot.h"

#include <cstring>
#include <filesystem>
#include <fstream>

#include "snapshot_world.h"

using namespace embedcore;
using namespace embedcore::test;

TEST(an_index_comes_back_with_everything) {
  const Folder folder;
  const auto index = churned(800, 9, 4);
  index->set_tag({"fingerprint of a space", 987654321098});
  CHECK(index->save(folder.file("a")).ok());
  const auto loaded = Index::load(folder.file("a"));
  CHECK(loaded.ok());
  Index& copy = *loaded.value();
  CHECK_EQ(copy.tag().fingerprint, "fingerprint of a space");
  CHECK_EQ(copy.tag().watermark, std::uint64_t{987654321098});
  CHECK_EQ(copy.tombstones(), index->tombstones());
  CHECK_EQ(copy.config().seed, index->config().seed);
  CHECK(copy.ids() == index->ids());
  CHECK(copy.check().empty());
  std::mt19937 random(42);
  for (int q = 0; q < 20; ++q) {
    const Vector query = random_vector(random, 9);
    const Found a = search(*index, query.data(), 10, 30);
    const Found b = search(copy, query.data(), 10, 30);
    CHECK(a.ids == b.ids);
    CHECK(a.distances == b.distances);
  }
  // A second file is the same byte for byte, and life goes on after loading.
  CHECK(copy.save(folder.file("b")).ok());
  CHECK(bytes_of(folder.file("a")) == bytes_of(folder.file("b")));
  const auto rows = random_rows(random, 300, 9);
  CHECK(copy.add(numbered(5000, 300), rows.data()).ok());
  copy.compact();
  copy.relocate();
  CHECK(copy.check().empty());
  CHECK_EQ(copy.size(), index->size() + 300);
}

SLOW_TEST(every_kind_of_index_comes_back_equal_with_the_same_codes) {
  const Folder folder;
  std::size_t round = 0;
  for (const Kind kind : every_kind) {
    const auto index = churned(800, 20, 4, every_metric[round++ % 3], kind);
    CHECK(index->save(folder.file("a")).ok());
    const auto loaded = Index::load(folder.file("a"));
    CHECK(loaded.ok());
    if (!loaded.ok()) continue;
    Index& copy = *loaded.value();
    CHECK(copy.config().dtype == index->config().dtype);
    CHECK(copy.config().codes == index->config().codes);
    CHECK(copy.config().metric == index->config().metric);
    const hnsw::Stats before = index->stats();
    const hnsw::Stats after = copy.stats();
    CHECK_EQ(before.codes_trained_on != 0, kind.codes != hnsw::Codes::none);
    CHECK_EQ(after.codes_trained_on, before.codes_trained_on);
    CHECK_EQ(after.codes_step, before.codes_step);
    CHECK_EQ(after.codes_error, before.codes_error);
    const Index::Impl& x = hnsw::IndexTestPeer::impl(*index);
    const Index::Impl& y = hnsw::IndexTestPeer::impl(copy);
    std::size_t different = 0;
    CHECK_EQ(x.storage.end(), y.storage.end());
    for (hnsw::Slot slot = 0; slot < x.storage.end(); ++slot) {
      if (!x.attached(slot)) continue;
      const auto same = [&](const std::byte* a, const std::byte* b, std::size_t n) {
        return std::equal(a, a + n, b);
      };
      different +=
          same(x.storage.original(slot), y.storage.original(slot), x.storage.originals().bytes) ? 0u : 1u;
      different += same(x.storage.row(slot), y.storage.row(slot), x.storage.rows().bytes) ? 0u : 1u;
    }
    CHECK_EQ(different, std::size_t{0});
    CHECK(copy.ids() == index->ids());
    CHECK(copy.check().empty());
    std::mt19937 random(43);
    for (int q = 0; q < 20; ++q) {
      const Vector query = random_vector(random, 20);
      hnsw::SearchStats effort;
      hnsw::SearchStats again;
      std::vector<std::int64_t> ids(10), ids_again(10);
      std::vector<float> distances(10), distances_again(10);
      index->search(query.data(), 10, 30, nullptr, ids.data(), distances.data(), &effort);
      copy.search(query.data(), 10, 30, nullptr, ids_again.data(), distances_again.data(), &again);
      CHECK(ids == ids_again);
      CHECK(distances == distances_again);
      CHECK_EQ(effort.distances, again.distances);
    }
    CHECK(copy.save(folder.file("b")).ok());
    CHECK(bytes_of(folder.file("a")) == bytes_of(folder.file("b")));
    const auto rows = random_rows(random, 300, 20);
    CHECK(copy.add(numbered(5000, 300), rows.data(), 1).ok());
    copy.compact();
    copy.relocate();
    CHECK(copy.check().empty());
  }
}

TEST(a_snapshot_before_training_has_no_codes_and_trains_later) {
  const Folder folder;
  std::mt19937 random(44);
  const auto index = make_index(20, Metric::l2, 4, 0, {hnsw::Dtype::float16, hnsw::Codes::int8});
  const auto rows = random_rows(random, 300, 20);
  CHECK(index->add(numbered(0, 200), rows.data(), 1).ok());
  CHECK(index->save(folder.file("early")).ok());
  const auto loaded = Index::load(folder.file("early"));
  CHECK(loaded.ok());
  CHECK_EQ(loaded.value()->stats().codes_trained_on, std::uint64_t{0});
  CHECK(loaded.value()->add(numbered(200, 100), &rows[200 * 20], 1).ok());
  CHECK_EQ(loaded.value()->stats().codes_trained_on, std::uint64_t{300});
  CHECK(loaded.value()->check().empty());
}

TEST(the_golden_file_of_version_1_loads) {
  const auto loaded = Index::load(EMBEDCORE_TEST_DATA "/index-v1.ecx");
  CHECK(loaded.ok());
  if (!loaded.ok()) return;
  Index& index = *loaded.value();
  const hnsw::Config& config = index.config();
  CHECK_EQ(config.dim, 6u);
  CHECK_EQ(config.m, 4u);
  CHECK_EQ(config.ef_construction, 20u);
  CHECK_EQ(config.seed, std::uint64_t{9});
  CHECK(config.metric == Metric::cosine && config.dtype == hnsw::Dtype::float32 &&
        config.codes == hnsw::Codes::none);
  CHECK_EQ(index.tag().fingerprint, "golden-space");
  CHECK_EQ(index.tag().watermark, std::uint64_t{42});
  CHECK_EQ(index.tombstones(), std::size_t{3});
  CHECK(index.check().empty());
  // What wrote it: see golden_index() in tests/python/index/test_snapshot.py.
  std::vector<std::int64_t> live;
  std::vector<float> expected;
  for (std::int64_t i = 10; i < 60; ++i) {
    if (i == 20 || i == 21) continue;
    live.push_back(i);
    for (std::int64_t j = 1; j <= 6; ++j) {
      const float value = static_cast<float>(i * j % 7) - 2.5f;
      expected.push_back(i == 30 ? -value : value);
    }
  }
  CHECK(index.ids() == live);
  std::vector<float> got(expected.size());
  CHECK(index.get(live, got.data()).ok());
  CHECK(got == expected);
  Found found = search(index, expected.data(), live.size(), 100);
  std::sort(found.ids.begin(), found.ids.end());
  CHECK(found.ids == live);
  // Written anew it is of the version of an index without limits, and the same index.
  const Folder folder;
  CHECK(index.save(folder.file("new")).ok());
  CHECK_EQ(static_cast<int>(bytes_of(folder.file("new"))[8]),
           static_cast<int>(hnsw::snapshot::version_without_limits));
  CHECK(Index::load(folder.file("new")).value()->ids() == live);
}

// What wrote versions 2 and 3: see golden_coded_index() in tests/python/index/test_snapshot.py.
TEST(golden_files_with_codes_load) {
  for (const char* name : {"/index-v2.ecx", "/index-v3.ecx"}) {
    const auto loaded = Index::load(EMBEDCORE_TEST_DATA + std::string(name));
    CHECK(loaded.ok());
    if (!loaded.ok()) continue;
    Index& index = *loaded.value();
    CHECK(index.config().dtype == hnsw::Dtype::float16 && index.config().codes == hnsw::Codes::int8);
    CHECK_EQ(index.stats().codes_trained_on, std::uint64_t{300});
    CHECK_EQ(index.tag().fingerprint, "golden-space");
    CHECK_EQ(index.tag().watermark, std::uint64_t{42});
    CHECK_EQ(index.tombstones(), std::size_t{3});
    CHECK_EQ(index.size(), std::size_t{288});
    CHECK(index.check().empty());
    const std::int64_t id = 31;
    Vector got(20);
    CHECK(index.get({&id, 1}, got.data()).ok());
    for (std::int64_t j = 1; j <= 20; ++j)
      CHECK_EQ(got[static_cast<std::size_t>(j - 1)], static_cast<float>(id * j % 23) - 11 + 0.25f);
    CHECK_EQ(search(index, got.data(), 1, 50).ids.front(), id);
    const Folder folder;
    CHECK(index.save(folder.file("new")).ok());
    // A version 3 that nothing was done to is written as it was read.
    if (name[8] == '3')
      CHECK(bytes_of(folder.file("new")) == bytes_of(EMBEDCORE_TEST_DATA + std::string(name)));
    CHECK(Index::load(folder.file("new")).value()->ids() == index.ids());
  }
}

TEST(an_empty_index_can_be_saved) {
  const Folder folder;
  const auto index = make_index(7);
  CHECK(index->save(folder.file("empty")).ok());
  const auto loaded = Index::load(folder.file("empty"));
  CHECK(loaded.ok());
  CHECK_EQ(loaded.value()->size(), std::size_t{0});
  CHECK_EQ(loaded.value()->config().dim, 7u);
}

TEST(a_failed_save_leaves_the_old_file_and_no_litter) {
  const Folder folder;
  const auto index = churned(24, 3, 2);
  std::filesystem::create_directories(folder.file("taken") + "/inside"); // rename cannot replace it
  const Status status = index->save(folder.file("taken"));
  CHECK(status.error().code == Code::failed_precondition);
  CHECK(std::filesystem::exists(folder.file("taken") + "/inside"));
  CHECK(!index->save(folder.file("no/such/folder/file")).ok());
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path)) ++files;
  CHECK_EQ(files, std::size_t{1});
}

TEST(what_is_no_snapshot_is_refused) {
  const Folder folder;
  CHECK(Index::load(folder.file("missing")).error().code == Code::not_found);
  CHECK(Index::load(folder.path.string()).error().code == Code::failed_precondition);
  write(folder.file("text"), std::string(9000, 'x'));
  CHECK(refused_as_damaged(folder.file("text")));
}
