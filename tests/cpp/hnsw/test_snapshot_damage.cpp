// Damage of every kind is found: at once, or, where a file is mapped, by the check in the background.
#include <cstring>
#include <limits>

#include "hnsw/snapshot.h"
#include "snapshot_seal.h"
#include "snapshot_world.h"
#include "support/stress.h"

using namespace embedcore;
using namespace embedcore::test;
namespace snapshot = hnsw::snapshot;

namespace {

// A small file in every section of which there is something: with codes, which take 256 items to train, and
// of which there are few afterwards.
std::shared_ptr<Index> small(Kind kind) {
  const auto index = make_index(3, Metric::l2, 2, 0, kind);
  std::mt19937 random(45);
  CHECK(index->add(numbered(0, 260), random_rows(random, 260, 3).data(), 1).ok());
  CHECK_EQ(index->remove(numbered(0, 240)), std::size_t{240});
  for (int i = 0; i < 2; ++i) index->compact();
  for (int i = 0; i < 2; ++i) index->relocate();
  CHECK_EQ(index->remove(numbered(240, 4)), std::size_t{4});
  index->set_tag({"abc", 5});
  const bool coded = kind.codes != hnsw::Codes::none;
  CHECK_EQ(index->stats().codes_trained_on, std::uint64_t{coded ? 260u : 0u});
  CHECK_EQ(index->stats().slots, std::size_t{20});
  return index;
}

// Refused as it is opened; or, where it is mapped, opened, asked a question, and found to be damaged before
// anybody has been told that it is verified.
bool refused(const std::string& path, bool mapped) {
  const auto loaded = Index::load(path, mapped);
  if (!loaded.ok()) return loaded.error().code == Code::data_loss;
  const Vector query(loaded.value()->config().dim, 0.5f);
  search(*loaded.value(), query.data(), 3, 20);
  const Status verified = loaded.value()->wait_verified();
  return !verified.ok() && verified.error().code == Code::data_loss && !loaded.value()->verified() &&
         !loaded.value()->health().ok();
}

class Patched { // one file whose bytes are changed and put back
 public:
  explicit Patched(const std::string& path)
      : path_(path), good_(bytes_of(path)), file_(path, std::ios::binary | std::ios::in | std::ios::out) {}
  [[nodiscard]] const std::string& good() const { return good_; }
  [[nodiscard]] bool refused_without(std::size_t at, unsigned bit, bool mapped) {
    put(at, static_cast<char>(good_[at] ^ (1 << bit)));
    const bool found = refused(path_, mapped);
    put(at, good_[at]);
    return found;
  }

 private:
  void put(std::size_t at, char byte) { file_.seekp(static_cast<std::streamoff>(at)).put(byte).flush(); }

  std::string path_;
  std::string good_;
  std::fstream file_;
};

const Kind small_kinds[] = {{hnsw::Dtype::float16, hnsw::Codes::int8},
                            {hnsw::Dtype::int8, hnsw::Codes::int4},
                            {hnsw::Dtype::float32, hnsw::Codes::none}};

} // namespace

// A bit of each byte, of those that are not zero two: one where the file is read, one where it is mapped. In
// `make torture` all bits in both ways.
SLOW_TEST(every_flipped_byte_of_a_snapshot_is_found) {
  const bool all = from_environment("EMBEDCORE_STRESS", 1) > 1;
  const auto other = static_cast<unsigned>(from_environment("EMBEDCORE_SEED", 0));
  for (const Kind kind : small_kinds) {
    const Folder folder;
    CHECK(small(kind)->save(folder.file("good")).ok());
    CHECK(!refused(folder.file("good"), false) && !refused(folder.file("good"), true));
    Patched file(folder.file("good"));
    std::size_t missed = 0;
    for (std::size_t at = 0; at < file.good().size(); ++at) {
      const unsigned flips = all ? 16 : file.good()[at] == 0 ? 1 : 2;
      for (unsigned i = 0; i < flips; ++i) {
        const auto number = static_cast<unsigned>(at) + other + i;
        missed += file.refused_without(at, number / 2 % 8, number % 2 == 1) ? 0u : 1u;
      }
    }
    CHECK_EQ(missed, std::size_t{0});
    CHECK(!refused(folder.file("good"), false));
  }
}

SLOW_TEST(every_truncation_of_a_snapshot_and_any_extension_is_found) {
  for (const Kind kind : small_kinds) {
    const Folder folder;
    CHECK(small(kind)->save(folder.file("good")).ok());
    const std::string good = bytes_of(folder.file("good"));
    std::size_t missed = 0;
    for (std::size_t length = good.size(); length-- > 0;) {
      std::filesystem::resize_file(folder.file("good"), length);
      for (const bool mapped : {false, true}) missed += refused(folder.file("good"), mapped) ? 0u : 1u;
    }
    CHECK_EQ(missed, std::size_t{0});
    for (const std::string& more : {std::string(1, '\0'), std::string(snapshot::page, '\0')}) {
      write(folder.file("bad"), good + more);
      CHECK(refused(folder.file("bad"), false));
      CHECK(refused(folder.file("bad"), true));
    }
  }
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
  std::vector<std::uint64_t> places = {snapshot::header_fields(header.version), header.header_bytes - 5,
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
  CHECK_EQ(header_of(good).codes_most, 63u);
  CHECK(refused_with(offsetof(Header, codes_most), std::uint32_t{127}));
  CHECK(refused_with(offsetof(Header, codes_most), std::uint32_t{0}));
  CHECK(refused_with(offsetof(Header, zero), std::uint8_t{1}));
  CHECK(refused_with(offsetof(Header, part_limits), std::uint32_t{1}));
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
