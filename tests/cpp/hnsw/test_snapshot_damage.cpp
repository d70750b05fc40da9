// Damage of every kind is found: at once, or, where a file is mapped, by the check in the background.
#include <cstring>
#include <limits>

#include "hnsw/snapshot.h"
#include "snapshot_seal.h"
#include "snapshot_world.h"

using namespace embedcore;
using namespace embedcore::test;
namespace snapshot = hnsw::snapshot;

namespace {

class Patched { // one file whose bytes are changed and put back
 public:
  explicit Patched(const std::string& path)
      : path_(path), good_(bytes_of(path)), file_(path, std::ios::binary | std::ios::in | std::ios::out) {}
  [[nodiscard]] std::size_t size() const { return good_.size(); }
  [[nodiscard]] bool refused(std::size_t at, unsigned bit, bool mapped) {
    put(at, static_cast<char>(good_[at] ^ (1 << bit)));
    const bool found = refused_as_damaged(path_, mapped);
    put(at, good_[at]);
    return found;
  }

 private:
  void put(std::size_t at, char byte) { file_.seekp(static_cast<std::streamoff>(at)).put(byte).flush(); }

  std::string path_;
  std::string good_;
  std::fstream file_;
};

} // namespace

TEST(every_flipped_byte_of_a_snapshot_is_found) {
  const Folder folder;
  const auto index = churned(24, 3, 2);
  index->set_tag({"abc", 5});
  CHECK(index->save(folder.file("good")).ok());
  CHECK(!refused_as_damaged(folder.file("good")) && !refused_as_damaged(folder.file("good"), true));
  Patched file(folder.file("good"));
  std::size_t missed = 0;
  for (std::size_t at = 0; at < file.size(); ++at) {
    missed += file.refused(at, static_cast<unsigned>(at % 8), at / 8 % 2 == 0) ? 0u : 1u;
  }
  CHECK_EQ(missed, std::size_t{0});
  CHECK(!refused_as_damaged(folder.file("good")));
}

// Codes take 256 items, too many to flip each byte: all around the ends of sections, and samples between.
TEST(flipped_bytes_are_found_in_files_with_codes) {
  const Folder folder;
  std::mt19937 random(45);
  for (const Kind kind :
       {Kind{hnsw::Dtype::float16, hnsw::Codes::int8}, Kind{hnsw::Dtype::int8, hnsw::Codes::int4}}) {
    const auto index = make_index(3, Metric::l2, 2, 0, kind);
    const auto rows = random_rows(random, 260, 3);
    CHECK(index->add(numbered(0, 260), rows.data(), 1).ok());
    CHECK_EQ(index->remove(numbered(0, 30)), std::size_t{30});
    CHECK_EQ(index->stats().codes_trained_on, std::uint64_t{260});
    CHECK(index->save(folder.file("good")).ok());
    CHECK(!refused_as_damaged(folder.file("good")) && !refused_as_damaged(folder.file("good"), true));
    const snapshot::Layout layout(header_of(bytes_of(folder.file("good"))));
    CHECK_EQ(layout.sections[snapshot::mean].used, std::uint64_t{12});
    Patched file(folder.file("good"));
    std::size_t missed = 0;
    for (std::size_t at = 0; at < file.size();) {
      const bool mapped = random() % 2 == 0;
      missed += file.refused(at, static_cast<unsigned>(random() % 8), mapped) ? 0u : 1u;
      const std::size_t in_page = at % snapshot::page;
      at += in_page < 16 || in_page >= snapshot::page - 16 ? 1 : 1 + random() % 24;
    }
    CHECK_EQ(missed, std::size_t{0});
    CHECK(!refused_as_damaged(folder.file("good")));
  }
}

TEST(every_truncation_of_a_snapshot_and_any_extension_is_found) {
  const Folder folder;
  const auto index = churned(24, 3, 2);
  CHECK(index->save(folder.file("good")).ok());
  const std::string good = bytes_of(folder.file("good"));
  std::size_t missed = 0;
  for (std::size_t length = good.size(); length-- > 0;) {
    std::filesystem::resize_file(folder.file("good"), length);
    missed += refused_as_damaged(folder.file("good"), length % 2 == 0) ? 0u : 1u;
  }
  CHECK_EQ(missed, std::size_t{0});
  write(folder.file("bad"), good + '\0');
  CHECK(refused_as_damaged(folder.file("bad")));
  CHECK(refused_as_damaged(folder.file("bad"), true));
}

TEST(padding_that_is_not_zero_is_refused_though_its_checksum_holds) {
  const Folder folder;
  std::mt19937 random(46);
  const auto index = make_index(3, Metric::l2, 2, 0, {hnsw::Dtype::float16, hnsw::Codes::int8});
  CHECK(index->add(numbered(0, 300), random_rows(random, 300, 3).data(), 1).ok());
  CHECK(index->save(folder.file("good")).ok());
  const std::string good = bytes_of(folder.file("good"));
  std::string same = good;
  seal(same);
  CHECK(same == good); // the test's own idea of the format is that of the code
  const snapshot::Header header = header_of(good);
  const snapshot::Layout layout(header);
  std::vector<std::uint64_t> places = {snapshot::header_fields, header.header_bytes - 5,
                                       layout.checksums.at + layout.checksums.used};
  for (const snapshot::Section& section : layout.sections) {
    if (section.used != section.bytes) places.push_back(section.at + section.used);
    if (section.used != section.bytes) places.push_back(section.at + section.bytes - 1);
  }
  CHECK(places.size() >= 11);
  for (const std::uint64_t at : places) {
    std::string bytes = good;
    bytes[at] = 1;
    seal(bytes);
    write(folder.file("planted"), bytes);
    CHECK(refused_as_damaged(folder.file("planted")));
    CHECK(refused_as_damaged(folder.file("planted"), true));
  }
}

TEST(headers_and_graphs_that_no_index_has_are_refused_though_checksums_hold) {
  const Folder folder;
  std::mt19937 random(46);
  const auto index = make_index(3, Metric::l2, 2, 0, {hnsw::Dtype::float32, hnsw::Codes::int8});
  CHECK(index->add(numbered(0, 260), random_rows(random, 260, 3).data(), 1).ok());
  CHECK_EQ(index->remove(numbered(0, 1)), std::size_t{1});
  CHECK(index->save(folder.file("good")).ok());
  const std::string good = bytes_of(folder.file("good"));
  const auto refused_with = [&](std::uint64_t at, auto value) {
    std::string bytes = good;
    std::memcpy(&bytes[at], &value, sizeof(value));
    seal(bytes);
    write(folder.file("planted"), bytes);
    return refused_as_damaged(folder.file("planted")) && refused_as_damaged(folder.file("planted"), true);
  };
  using snapshot::Header;
  using snapshot::NodeRecord;
  CHECK(!refused_with(offsetof(Header, codes_step), header_of(good).codes_step)); // as it was
  CHECK(refused_with(offsetof(Header, codes_step), std::numeric_limits<float>::infinity()));
  CHECK(refused_with(offsetof(Header, codes_step), std::numeric_limits<float>::quiet_NaN()));
  CHECK(refused_with(offsetof(Header, codes_step), -1.0f));
  CHECK(refused_with(offsetof(Header, codes_error), std::numeric_limits<float>::quiet_NaN()));
  CHECK(refused_with(offsetof(Header, zero), std::uint8_t{1}));
  CHECK(refused_with(offsetof(Header, zeros), std::uint32_t{1}));
  CHECK(refused_with(offsetof(Header, metric), std::uint8_t{3}));
  CHECK(refused_with(offsetof(Header, live), std::uint64_t{260}));
  CHECK(refused_with(offsetof(Header, entry_slot), std::uint32_t{260}));
  CHECK(refused_with(offsetof(Header, entry_slot), hnsw::no_slot));
  CHECK(refused_with(offsetof(Header, entry_level), header_of(good).entry_level + 1));
  CHECK(refused_with(offsetof(Header, codes_trained_on), std::uint64_t{0}));

  const snapshot::Layout layout(header_of(good));
  const std::uint64_t node = layout.sections[snapshot::nodes].at + 7 * sizeof(NodeRecord);
  NodeRecord record{};
  std::memcpy(&record, &good[node], sizeof(record));
  CHECK(refused_with(node + offsetof(NodeRecord, id), std::int64_t{8})); // twice
  CHECK(refused_with(node + offsetof(NodeRecord, id), std::int64_t{-1}));
  CHECK(refused_with(node + offsetof(NodeRecord, died), std::uint64_t{1}));
  CHECK(refused_with(node + offsetof(NodeRecord, state), std::uint8_t{1}));
  CHECK(refused_with(node + offsetof(NodeRecord, state), std::uint8_t{0}));
  CHECK(refused_with(node + offsetof(NodeRecord, level), std::uint8_t{16}));
  CHECK(refused_with(node + offsetof(NodeRecord, parent), std::uint32_t{260}));
  CHECK(refused_with(node + offsetof(NodeRecord, parent), std::uint32_t{7}));
  CHECK(refused_with(node + offsetof(NodeRecord, parent), hnsw::no_slot));
  CHECK(refused_with(node + offsetof(NodeRecord, zero), std::uint16_t{1}));
  const std::uint64_t link = layout.sections[snapshot::blocks].at + 7 * header_of(good).block_bytes;
  CHECK(refused_with(link, std::uint32_t{260}));
  CHECK(refused_with(link, std::uint32_t{7}));
  CHECK(refused_with(link, hnsw::protected_link(100)));
  CHECK(refused_with(link + 4 * sizeof(hnsw::Word), std::uint32_t{1})); // a place that no list has
  CHECK(refused_with(layout.sections[snapshot::mean].at, std::numeric_limits<float>::quiet_NaN()));
}

TEST(damage_of_a_mapped_file_takes_the_index_out_of_service_and_is_never_saved) {
  const Folder folder;
  const auto index = churned(500, 9, 4, Metric::l2, {hnsw::Dtype::float32, hnsw::Codes::int8});
  CHECK(index->save(folder.file("a")).ok());
  std::string bytes = bytes_of(folder.file("a"));
  const snapshot::Layout layout(header_of(bytes));
  bytes[layout.sections[snapshot::originals].at + 200] ^= 4;
  write(folder.file("b"), bytes);
  const auto loaded = Index::load(folder.file("b"), true);
  CHECK(loaded.ok());
  if (!loaded.ok()) return;
  const Status saved = loaded.value()->save(folder.file("c"));
  CHECK(saved.error().code == Code::data_loss);
  CHECK(saved.error().message.find("chunk 0 of its vectors") != std::string::npos);
  CHECK(saved.error().message.find(folder.file("b")) != std::string::npos);
  CHECK(!std::filesystem::exists(folder.file("c")));
  CHECK(!loaded.value()->verified() && !loaded.value()->stats().verified);
}
