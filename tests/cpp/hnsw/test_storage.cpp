#include "hnsw/storage.h"

#include <set>

#include "world.h"

using namespace embedcore::hnsw;
using embedcore::test::kept_floats;

namespace {

Config config_of(std::uint32_t dim, std::uint32_t m) {
  Config config;
  config.dim = dim;
  config.m = m;
  return config;
}

} // namespace

TEST(a_new_slot_is_pending_with_empty_links_on_every_level) {
  Storage storage;
  CHECK(storage.create(config_of(5, 3)).ok());
  const Slot slot = storage.allocate(2);
  CHECK_EQ(slot, 0u);
  CHECK(storage.state(slot) == State::pending);
  CHECK_EQ(storage.parent(slot), no_slot);
  for (std::uint32_t level = 0; level <= 2; ++level) {
    const Links links = storage.links(slot, level);
    CHECK_EQ(links.count, level == 0 ? 6u : 3u);
    for (std::size_t i = 0; i < links.count; ++i) CHECK_EQ(links.load(i), no_slot);
  }
}

TEST(blocks_are_aligned_and_nothing_overlaps) {
  for (const std::uint32_t dim : {1u, 16u, 17u, 384u}) {
    for (const std::uint32_t m : {2u, 7u, 16u}) {
      Storage storage;
      CHECK(storage.create(config_of(dim, m)).ok());
      // Each slot writes its number everywhere it may; afterwards everything is still there.
      for (Slot slot = 0; slot < 50; ++slot) {
        CHECK_EQ(storage.allocate(static_cast<std::uint8_t>(slot % 4)), slot);
        CHECK_EQ(reinterpret_cast<std::uintptr_t>(storage.row(slot)) % 64, std::uintptr_t{0});
        std::fill_n(kept_floats(storage, slot), dim, static_cast<float>(slot));
        for (std::uint32_t level = 0; level <= slot % 4; ++level) {
          const Links links = storage.links(slot, level);
          for (std::size_t i = 0; i < links.count; ++i) links.store(i, slot * 10 + level);
        }
      }
      for (Slot slot = 0; slot < 50; ++slot) {
        CHECK_EQ(kept_floats(storage, slot)[0], static_cast<float>(slot));
        CHECK_EQ(kept_floats(storage, slot)[dim - 1], static_cast<float>(slot));
        for (std::uint32_t level = 0; level <= slot % 4; ++level) {
          const Links links = storage.links(slot, level);
          for (std::size_t i = 0; i < links.count; ++i) CHECK_EQ(links.load(i), slot * 10 + level);
        }
      }
    }
  }
}

TEST(rows_and_originals_of_every_kind_lie_apart) {
  for (const embedcore::test::Kind kind : embedcore::test::every_kind) {
    for (const std::uint32_t dim : {1u, 65u, 129u}) {
      Config config = config_of(dim, 3);
      config.dtype = kind.dtype;
      config.codes = kind.codes;
      Storage storage;
      CHECK(storage.create(config).ok());
      const std::size_t row = storage.rows().bytes;
      const std::size_t original = storage.originals().bytes;
      CHECK_EQ(row, kind.codes == Codes::none ? original : Codec::bytes(config));
      for (Slot slot = 0; slot < 20; ++slot) {
        CHECK_EQ(storage.allocate(1), slot);
        CHECK_EQ(storage.original(slot) == storage.row(slot), kind.codes == Codes::none);
        CHECK(storage.original(slot) == storage.originals().base + slot * storage.originals().stride);
        CHECK(storage.row(slot) == storage.rows().base + slot * storage.rows().stride);
        CHECK_EQ(reinterpret_cast<std::uintptr_t>(storage.row(slot)) % 64, std::uintptr_t{0});
        const Links links{storage.links(slot, 0).at, static_cast<std::uint32_t>(storage.link_places())};
        CHECK_EQ(links.count % 16, 0u);
        for (std::size_t i = 0; i < links.count; ++i) CHECK_EQ(links.load(i), no_slot);
        std::fill_n(storage.row(slot), row, static_cast<std::byte>(slot));
        if (kind.codes != Codes::none)
          std::fill_n(storage.original(slot), original, static_cast<std::byte>(100 + slot));
      }
      const auto holds = [](const std::byte* at, std::size_t n, std::size_t value) {
        return std::all_of(at, at + n, [&](std::byte b) { return b == static_cast<std::byte>(value); });
      };
      for (Slot slot = 0; slot < 20; ++slot) {
        CHECK(holds(storage.row(slot), row, slot));
        CHECK(kind.codes == Codes::none || holds(storage.original(slot), original, 100 + slot));
        const Links links{storage.links(slot, 0).at, static_cast<std::uint32_t>(storage.link_places())};
        CHECK_EQ(links.find(no_slot), std::size_t{0});
        for (std::size_t i = 0; i < links.count; ++i) CHECK_EQ(links.load(i), no_slot);
      }
    }
  }
}

TEST(freed_slots_are_taken_lowest_first_and_their_upper_links_reused) {
  Storage storage;
  CHECK(storage.create(config_of(4, 2)).ok());
  for (int i = 0; i < 10; ++i) CHECK(storage.allocate(3) != no_slot);
  const std::uint32_t runs = storage.upper_end();
  CHECK_EQ(storage.lowest_free(), no_slot);
  const std::vector<Slot> gone{7, 2, 5};
  storage.free(gone);
  CHECK_EQ(storage.free_count(), std::size_t{3});
  CHECK_EQ(storage.lowest_free(), 2u);
  CHECK_EQ(storage.allocate(3), 2u);
  CHECK_EQ(storage.allocate(3), 5u);
  CHECK_EQ(storage.allocate(3), 7u);
  CHECK_EQ(storage.allocate(0), 10u);
  CHECK_EQ(storage.upper_end(), runs);
}

TEST(trim_ends_the_slots_before_a_free_tail) {
  Storage storage;
  CHECK(storage.create(config_of(1000, 4)).ok());
  for (int i = 0; i < 1000; ++i) {
    const Slot slot = storage.allocate(0);
    std::fill_n(kept_floats(storage, slot), 1000, 1.0f);
  }
  const std::size_t full = storage.resident().blocks;
  std::vector<Slot> gone{3};
  for (Slot slot = 100; slot < 1000; ++slot) gone.push_back(slot);
  storage.free(gone);
  storage.trim();
  CHECK_EQ(storage.end(), 100u);
  CHECK_EQ(storage.free_count(), std::size_t{1});
  CHECK(storage.resident().blocks < full / 4);
  CHECK_EQ(kept_floats(storage, 99)[999], 1.0f);
  CHECK_EQ(storage.allocate(0), 3u);
  CHECK_EQ(storage.allocate(0), 100u);
}

TEST(a_capacity_beyond_all_memory_is_a_hint_only) {
  Config config = config_of(65535, 512);
  config.capacity = std::size_t{1} << 40;
  Storage storage;
  CHECK(storage.create(config).ok());
  CHECK(!storage.prepare(std::size_t{1} << 40).ok());
  CHECK(storage.prepare(1).ok());
}
