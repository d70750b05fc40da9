// A mapped index is the same index, and lives on without ever changing its file.
#include "snapshot_world.h"

using namespace embedcore;
using namespace embedcore::test;

TEST(a_mapped_index_answers_alike_and_leaves_its_file_alone) {
  const Folder folder;
  std::size_t round = 0;
  for (const Kind kind : every_kind) {
    const auto index = churned(600, 20, 4, every_metric[round++ % 3], kind);
    CHECK(index->save(folder.file("a")).ok());
    const std::string before = bytes_of(folder.file("a"));
    const auto loaded = Index::load(folder.file("a"), true);
    CHECK(loaded.ok());
    if (!loaded.ok()) continue;
    Index& copy = *loaded.value();
    std::mt19937 random(47);
    for (int q = 0; q < 20; ++q) {
      const Vector query = random_vector(random, 20);
      const Found a = search(*index, query.data(), 10, 30);
      const Found b = search(copy, query.data(), 10, 30);
      CHECK(a.ids == b.ids);
      CHECK(a.distances == b.distances);
    }
    CHECK(copy.check().empty());
    CHECK(copy.wait_verified().ok());
    CHECK(copy.verified() && copy.stats().verified);
    CHECK(copy.save(folder.file("b")).ok());
    CHECK(bytes_of(folder.file("b")) == before);
    // Everything that writes where the file is mapped: updates, removal, compaction, reuse, relocation,
    // trimming.
    const auto rows = random_rows(random, 900, 20);
    CHECK(copy.add(numbered(150, 900), rows.data()).ok());
    CHECK(copy.remove(numbered(200, 500)) == 500);
    copy.compact();
    copy.relocate();
    copy.relocate();
    const auto others = random_rows(random, 700, 20);
    CHECK(copy.add(numbered(5000, 700), others.data()).ok());
    CHECK(copy.check().empty());
    CHECK_EQ(copy.size(), copy.ids().size());
    std::vector<float> got(20);
    const std::int64_t last = 5699;
    CHECK(copy.get({&last, 1}, got.data()).ok());
    CHECK(search(copy, got.data(), 1, 50).ids.front() == last || kind.dtype == hnsw::Dtype::int8 ||
          copy.config().metric == Metric::inner_product);
    CHECK(bytes_of(folder.file("a")) == before);
    std::filesystem::remove(folder.file("a")); // it lives on what is mapped
    CHECK(copy.check().empty());
  }
}

TEST(an_index_can_be_dropped_while_it_is_verified) {
  const Folder folder;
  CHECK(churned(600, 20, 4)->save(folder.file("a")).ok());
  for (int i = 0; i < 50; ++i) CHECK(Index::load(folder.file("a"), true).ok());
}

TEST(files_of_older_versions_are_read_where_mapping_is_asked_for) {
  for (const char* name : {"/index-v1.ecx", "/index-v2.ecx"}) {
    const auto loaded = Index::load(EMBEDCORE_TEST_DATA + std::string(name), true);
    CHECK(loaded.ok());
    CHECK(loaded.value()->verified());
    CHECK(loaded.value()->check().empty());
  }
}
