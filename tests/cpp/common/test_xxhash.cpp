// XXH64 against vectors of the reference implementation, at every length class of the algorithm; and the
// traffic split built on it.
#include "common/xxhash.h"

#include <array>
#include <cmath>
#include <string>

#include "check.h"

using embedcore::hash_share;
using embedcore::item_hash;
using embedcore::xxh64;

TEST(xxhash_strings_of_the_reference) {
  CHECK_EQ(item_hash(""), 0xEF46DB3751D8E999ull);
  CHECK_EQ(item_hash("a"), 0xD24EC4F1A98C6E5Bull);
  CHECK_EQ(item_hash("abc"), 0x44BC2CF5AD770999ull);
  CHECK_EQ(item_hash("Nobody inspects the spammish repetition"), 0xFBCEA83C8A378BF1ull);
}

TEST(xxhash_every_length_class_with_and_without_seed) {
  std::array<unsigned char, 200> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i * 131 + 7);
  struct Vector {
    std::size_t n;
    std::uint64_t seed0;
    std::uint64_t seed_prime;
  };
  // Computed with the reference library (python-xxhash 3), bytes[i] = (131 i + 7) mod 256.
  constexpr Vector vectors[] = {
      {0, 0xEF46DB3751D8E999ull, 0xAC75FDA2929B17EFull},
      {1, 0xA96C7F0CE858BBB7ull, 0x84E535B36672440Dull},
      {3, 0xBED43740EE6332BBull, 0x00B77B485431CE5Dull},
      {4, 0xFA212AE44B3BB23Dull, 0x60492C4BFCB70CACull},
      {5, 0xD339DCC9AC8E6776ull, 0xDB92B23C2BA23485ull},
      {7, 0x2744460DD675D2C0ull, 0xCDF83B729545B016ull},
      {8, 0x994B676B71CE94DDull, 0xF424EDEBFEA8D23Full},
      {11, 0x97F078DA7A1A590Cull, 0xEC8544D794BA09C3ull},
      {12, 0xB92F588CE720786Eull, 0xDDD89BDBF8AA26E0ull},
      {15, 0x09E6451ED2FF8B1Dull, 0xC812576B9FD296EEull},
      {16, 0x94AD0095E72B24D5ull, 0x4EFFE275897ABAB4ull},
      {24, 0x0A3B0194F3AFE0B8ull, 0x24A697DE08A387E6ull},
      {31, 0x6711D55E306B5D8Full, 0xFA1259CC8B20EB58ull},
      {32, 0x07F7B8E3BC5D6E25ull, 0x920F3E10A5DB09C6ull},
      {33, 0x09F85EEB4E1CBE9Full, 0x3D805E8712CB4890ull},
      {35, 0x25CC31E4544BC8C9ull, 0x6E0AF6F49E2F2B37ull},
      {36, 0xE7AC625222F2B655ull, 0xC3F99A56BEF26682ull},
      {63, 0xB7C9968C066CB6A5ull, 0x184BC5097530BB9Aull},
      {64, 0x50D4159A0411632Eull, 0x94667E10D68B3991ull},
      {65, 0xD277176BFF863EFCull, 0xE181E4D736915EB4ull},
      {100, 0x9DDADA11D3DC2D8Full, 0x5766BE6782B96389ull},
      {199, 0x7F3AEA62B83742F6ull, 0x6DBF9AF34DBE74CFull},
      {200, 0x3B8CC7EAA63F107Eull, 0xF0D884A6088F14F7ull},
  };
  for (const Vector& v : vectors) {
    CHECK_EQ(xxh64(bytes.data(), v.n, 0), v.seed0);
    CHECK_EQ(xxh64(bytes.data(), v.n, 2654435761u), v.seed_prime);
  }
}

TEST(xxhash_low_bits_spread_ids_over_shards) {
  constexpr std::size_t shards = 8;
  constexpr std::size_t ids = 8000;
  std::array<std::size_t, shards> count{};
  for (std::size_t i = 0; i < ids; ++i) ++count[item_hash("synset." + std::to_string(i)) & (shards - 1)];
  double chi2 = 0;
  constexpr double expected = double(ids) / shards;
  for (const std::size_t c : count) chi2 += std::pow(double(c) - expected, 2) / expected;
  CHECK(chi2 < 24.3); // 99.9th percentile of chi squared with 7 degrees of freedom
}

TEST(hash_share_is_uniform_and_salted) {
  constexpr int keys = 20000;
  int first = 0;
  int second = 0;
  int both = 0;
  for (int i = 0; i < keys; ++i) {
    const std::uint64_t hash = item_hash("user" + std::to_string(i));
    const double a = hash_share(hash, 1);
    const double b = hash_share(hash, 2);
    CHECK(a >= 0 && a < 1);
    first += a < 0.05;
    second += b < 0.05;
    both += a < 0.05 && b < 0.05;
  }
  // Binomial(20000, 0.05): mean 1000, standard deviation 31. Independent salts: 50 users in both.
  CHECK(std::abs(first - 1000) < 125);
  CHECK(std::abs(second - 1000) < 125);
  CHECK(std::abs(both - 50) < 30);
}

// Values of an independent implementation. They may never change: users would change arms mid-canary.
TEST(hash_share_is_fixed_for_ever) {
  CHECK_EQ(hash_share(item_hash("user-1"), 0ull), 0x1.e0467591a6909p-1);
  CHECK_EQ(hash_share(item_hash("user-1"), 7ull), 0x1.b60fc4f6bee86p-1);
  CHECK_EQ(hash_share(item_hash("user-2"), 7ull), 0x1.4cec82f0e0100p-5);
  CHECK_EQ(hash_share(item_hash("user-2"), 18446744073709551615ull), 0x1.eaf56bc260940p-7);
}
