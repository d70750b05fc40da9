// Random changes under checksums that hold: whatever loads is a sound index, nothing else happens. The same
// with libFuzzer, for as long as wanted: make fuzz.
#include "snapshot_fuzz.h"
#include "snapshot_world.h"
#include "support/stress.h"

using namespace embedcore;
using namespace embedcore::test;

TEST(snapshots_changed_at_random_load_as_sound_indexes_or_not_at_all) {
  const Folder folder;
  std::mt19937 random(stress_seed(49));
  std::size_t loaded = 0;
  std::size_t refused = 0;
  for (const Kind kind : {Kind{}, Kind{hnsw::Dtype::float16, hnsw::Codes::int8}}) {
    const auto index = churned(kind.codes == hnsw::Codes::none ? 40 : 280, 5, 2, Metric::l2, kind);
    CHECK(index->save(folder.file("a")).ok());
    const std::string good = bytes_of(folder.file("a"));
    CHECK(try_snapshot(good) == Tried::loaded);
    const hnsw::snapshot::Layout layout(header_of(good));
    const long rounds = 400 * from_environment("EMBEDCORE_STRESS", 1);
    for (long round = 0; round < rounds; ++round) {
      std::string bytes = good;
      for (auto change = 1 + random() % 3; change != 0; --change) {
        // Mostly where meaning is dense: header, nodes, links.
        const std::uint64_t most =
            random() % 4 == 0 ? bytes.size() : layout.sections[hnsw::snapshot::originals].at;
        const std::uint64_t at = random() % 3 == 0
                                     ? random() % hnsw::snapshot::header_fields(hnsw::snapshot::version)
                                     : random() % most;
        bytes[at] = random() % 2 == 0 ? static_cast<char>(random())
                                      : static_cast<char>(bytes[at] ^ (1 << random() % 8));
      }
      if (!seal(bytes)) continue;
      const Tried tried = try_snapshot(bytes);
      CHECK(tried != Tried::wrong);
      (tried == Tried::loaded ? loaded : refused) += 1;
    }
  }
  CHECK(loaded > 20); // changed vectors, codes, seeds: still an index
  CHECK(refused > 100);
}
