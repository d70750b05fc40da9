// Snapshots: what is saved comes back whole, and any damage is refused.
#include "hnsw/snapshot.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

// A folder of its own, removed at the end.
struct Folder {
  Folder() : path(std::filesystem::temp_directory_path() / ("embedcore-test-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  [[nodiscard]] std::string file(const std::string& name) const { return (path / name).string(); }
  std::filesystem::path path;
};

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

bool refused_as_damaged(const std::string& path) {
  const auto loaded = Index::load(path);
  return !loaded.ok() && loaded.error().code == Code::data_loss;
}

std::shared_ptr<Index> churned(std::size_t n, std::uint32_t dim, std::uint32_t m) {
  std::mt19937 random(41);
  const auto index = make_index(dim, Metric::l2, m);
  const auto rows = random_rows(random, n, dim);
  CHECK(index->add(numbered(0, n), rows.data(), 1).ok());
  CHECK(index->remove(numbered(0, n / 4)) == n / 4);
  index->compact();
  CHECK(index->add(numbered(static_cast<std::int64_t>(2 * n), n / 8), rows.data(), 1).ok());
  CHECK(index->remove(numbered(static_cast<std::int64_t>(n / 2), n / 8)) == n / 8);
  return index;
}

} // namespace

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

TEST(every_flipped_bit_is_found) {
  const Folder folder;
  const auto index = churned(24, 3, 2);
  index->set_tag({"abc", 5});
  CHECK(index->save(folder.file("good")).ok());
  const std::string good = bytes_of(folder.file("good"));
  CHECK(!refused_as_damaged(folder.file("good")));
  std::size_t missed = 0;
  std::fstream file(folder.file("good"), std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](std::size_t at, char byte) {
    file.seekp(static_cast<std::streamoff>(at)).put(byte).flush();
  };
  for (std::size_t at = 0; at < good.size(); ++at) {
    put(at, static_cast<char>(good[at] ^ (1 << (at % 8))));
    missed += refused_as_damaged(folder.file("good")) ? 0u : 1u;
    put(at, good[at]);
  }
  CHECK_EQ(missed, std::size_t{0});
  CHECK(Index::load(folder.file("good")).ok());
}

TEST(every_truncation_and_any_extension_is_found) {
  const Folder folder;
  const auto index = churned(24, 3, 2);
  CHECK(index->save(folder.file("good")).ok());
  const std::string good = bytes_of(folder.file("good"));
  std::size_t missed = 0;
  for (std::size_t length = good.size(); length-- > 0;) {
    std::filesystem::resize_file(folder.file("good"), length);
    missed += refused_as_damaged(folder.file("good")) ? 0u : 1u;
  }
  CHECK_EQ(missed, std::size_t{0});
  write(folder.file("bad"), good + '\0');
  CHECK(refused_as_damaged(folder.file("bad")));
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
