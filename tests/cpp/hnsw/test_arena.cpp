#include "hnsw/arena.h"

#include <cstring>

#include "check.h"

using embedcore::hnsw::Arena;

TEST(arena_grows_in_place_and_returns_memory) {
  Arena arena;
  CHECK(arena.reserve(std::size_t{1} << 30, 1).ok());
  CHECK_EQ(arena.resident(), std::size_t{0});
  std::byte* base = arena.data();
  CHECK_EQ(reinterpret_cast<std::uintptr_t>(base) % (std::size_t{2} << 20), std::uintptr_t{0});
  const std::size_t bytes = std::size_t{10} << 20;
  for (std::size_t n = 1000; n <= bytes; n += n / 2) {
    CHECK(arena.commit(n));
    CHECK(arena.data() == base);
    std::memset(base, 7, n);
  }
  CHECK(arena.resident() >= bytes / 2);
  const std::size_t before = arena.resident();
  arena.release(std::size_t{1} << 20);
  CHECK(arena.resident() + (std::size_t{4} << 20) <= before);
  CHECK(base[(std::size_t{1} << 20) - 1] == std::byte{7});
  CHECK(base[std::size_t{2} << 20] == std::byte{0}); // given back, so zero again
}

TEST(arena_refuses_more_than_it_reserved) {
  Arena arena;
  CHECK(arena.reserve(std::size_t{4} << 20, 1).ok());
  CHECK(arena.commit(std::size_t{4} << 20));
  CHECK(!arena.commit((std::size_t{4} << 20) + 1));
}

TEST(arena_says_when_there_is_no_address_space) {
  Arena arena;
  const auto status = arena.reserve(std::size_t{1} << 50, std::size_t{1} << 49);
  CHECK(!status.ok());
  CHECK(status.error().code == embedcore::Code::resource_exhausted);
}

TEST(a_small_arena_does_not_take_a_huge_page) {
  Arena arena;
  CHECK(arena.reserve(std::size_t{1} << 30, 1).ok());
  CHECK(arena.commit(100));
  std::memset(arena.data(), 1, 100);
  CHECK(arena.resident() <= (std::size_t{64} << 10));
}
