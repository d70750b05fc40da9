// CRC32C against published vectors (RFC 3720, appendix B.4), a bit-by-bit oracle, and its hardware twin.
#include "common/crc32c.h"

#include <random>
#include <string>
#include <vector>

#include "check.h"

using embedcore::crc32c;

namespace {

// The definition, one bit at a time.
std::uint32_t oracle(const std::vector<unsigned char>& bytes, std::size_t from, std::size_t n) {
  std::uint32_t crc = 0xFFFFFFFFu;
  for (std::size_t i = from; i < from + n; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82F63B78u : 0u);
  }
  return ~crc;
}

std::vector<unsigned char> random_bytes(std::size_t n, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<unsigned char> bytes(n);
  for (auto& b : bytes) b = static_cast<unsigned char>(generator());
  return bytes;
}

} // namespace

TEST(crc32c_published_vectors) {
  const std::string digits = "123456789";
  std::vector<unsigned char> ascending(32);
  for (unsigned i = 0; i < 32; ++i) ascending[i] = static_cast<unsigned char>(i);
  const std::vector<unsigned char> descending(ascending.rbegin(), ascending.rend());
  const std::vector<unsigned char> zeros(32, 0x00);
  const std::vector<unsigned char> ones(32, 0xFF);
  for (const auto function : {&crc32c, &embedcore::crc32c_scalar}) {
    CHECK_EQ(function(digits.data(), digits.size(), 0), 0xE3069283u);
    CHECK_EQ(function(zeros.data(), 32, 0), 0x8A9136AAu);
    CHECK_EQ(function(ones.data(), 32, 0), 0x62A8AB43u);
    CHECK_EQ(function(ascending.data(), 32, 0), 0x46DD794Eu);
    CHECK_EQ(function(descending.data(), 32, 0), 0x113FDB5Cu);
    CHECK_EQ(function("", 0, 0), 0u);
  }
}

TEST(crc32c_every_length_and_alignment_on_every_path) {
  const auto bytes = random_bytes(128, 7);
  for (std::size_t from = 0; from < 9; ++from) {
    for (std::size_t n = 0; n <= 67; ++n) {
      const std::uint32_t expected = oracle(bytes, from, n);
      CHECK_EQ(embedcore::crc32c_scalar(bytes.data() + from, n), expected);
      if (embedcore::crc32c_has_hardware()) {
        CHECK_EQ(embedcore::crc32c_hardware(bytes.data() + from, n), expected);
      }
    }
  }
}

TEST(crc32c_continues_across_pieces) {
  const auto bytes = random_bytes(1000, 11);
  const std::uint32_t whole = crc32c(bytes.data(), bytes.size());
  for (const std::size_t cut : {0, 1, 7, 8, 500, 999, 1000}) {
    const std::uint32_t first = crc32c(bytes.data(), cut);
    CHECK_EQ(crc32c(bytes.data() + cut, bytes.size() - cut, first), whole);
  }
}

TEST(crc32c_sees_every_flipped_bit) {
  auto bytes = random_bytes(64, 13);
  const std::uint32_t whole = crc32c(bytes.data(), bytes.size());
  for (std::size_t bit = 0; bit < 64 * 8; ++bit) {
    const auto mask = static_cast<unsigned char>(1u << (bit % 8));
    bytes[bit / 8] ^= mask;
    CHECK(crc32c(bytes.data(), bytes.size()) != whole);
    bytes[bit / 8] ^= mask;
  }
}
