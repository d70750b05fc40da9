// Rounding of kept vectors, against definitions in double.
#include "hnsw/originals.h"

#include <bit>
#include <cfloat>
#include <cstring>

#include "world.h"

using namespace embedcore;
using namespace embedcore::hnsw;
using namespace embedcore::test;

namespace {

Config config_of(std::size_t dim, Dtype dtype, Metric metric = Metric::l2) {
  Config config;
  config.dim = static_cast<std::uint32_t>(dim);
  config.dtype = dtype;
  config.metric = metric;
  return config;
}

// To the nearest of a format with `mantissa` stored bits and this least exponent; ties to even, exact in
// double.
double rounded(double x, int mantissa, int least) {
  if (x == 0) return x;
  const int exponent = std::max(std::ilogb(x), least);
  const double unit = std::ldexp(1.0, exponent - mantissa);
  return std::nearbyint(x / unit) * unit;
}
double as_half(double x) { return rounded(x, 10, -14); }
double as_bfloat(double x) { return rounded(x, 7, -126); }

bool same_bits(double expected, float got) {
  return std::bit_cast<std::uint32_t>(static_cast<float>(expected)) == std::bit_cast<std::uint32_t>(got);
}

float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }

// Every value comes back as round says; the returned norm is that of what came back.
void expect_rounding(Dtype dtype, const Vector& values, double (*round)(double)) {
  const Originals originals(config_of(values.size(), dtype));
  std::vector<std::byte> row(originals.bytes());
  const float inverse = originals.store(values.data(), row.data());
  Vector back(values.size());
  originals.load(row.data(), back.data());
  double squares = 0;
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    wrong += same_bits(round(values[i]), back[i]) ? 0u : 1u;
    squares += static_cast<double>(back[i]) * back[i];
  }
  CHECK_EQ(wrong, std::size_t{0});
  // Below this 1 / norm is beyond float32.
  if (squares > 1e-75) CHECK(std::abs(inverse * std::sqrt(squares) - 1) < 1e-6);
}

} // namespace

TEST(every_half_is_read_as_it_is_defined_and_kept_as_it_is) {
  const Originals one(config_of(1, Dtype::float16));
  std::size_t wrong = 0;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const int mantissa = static_cast<int>(bits & 1023);
    if (exponent == 31) continue; // infinities and NaN are refused before
    double value = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if ((bits & 0x8000) != 0) value = -value;
    const auto half = static_cast<std::uint16_t>(bits);
    std::byte row[2];
    std::memcpy(row, &half, sizeof(half));
    float got = 0;
    one.load(row, &got);
    wrong += same_bits(value, got) ? 0u : 1u;
    std::byte again[2];
    one.store(&got, again);
    wrong += std::memcmp(row, again, sizeof(row)) == 0 ? 0u : 1u;
  }
  CHECK_EQ(wrong, std::size_t{0});
}

TEST(float16_rounds_ties_to_even_between_all_neighbours) {
  Vector values;
  for (std::uint32_t bits = 0; bits < 0x7C00; ++bits) {
    // The middle between this half and the next one (the last: where float16 ends), and beside it.
    const bool small = bits < 0x400;
    const double low =
        small ? std::ldexp(bits, -24) : std::ldexp(1024 + (bits & 1023), static_cast<int>(bits >> 10) - 25);
    const double step = small ? 0x1p-24 : std::ldexp(1.0, static_cast<int>(bits >> 10) - 25);
    const auto middle = static_cast<float>(low + step / 2);
    values.push_back(std::nextafter(middle, 0.0f));
    if (bits == 0x7BFF) continue; // the middle itself would overflow
    values.push_back(middle);
    values.push_back(-middle);
    values.push_back(std::nextafter(middle, 1e9f));
  }
  // Rows have at most 65,535 values.
  const std::size_t most = 60000;
  for (std::size_t at = 0; at < values.size(); at += most) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(at);
    const auto n = static_cast<std::ptrdiff_t>(std::min(most, values.size() - at));
    expect_rounding(Dtype::float16, Vector(begin, begin + n), as_half);
  }
}

TEST(floats_of_every_size_round_to_the_nearest) {
  std::mt19937 random(91);
  for (int round = 0; round < 10; ++round) {
    Vector halves;
    Vector bfloats;
    for (int i = 0; i < 20000; ++i) {
      const auto bits = static_cast<std::uint32_t>(random());
      // Exponents 2^-127 (zero and subnormals) to 2^15, and to 2^62; beyond, norms are refused.
      const float half = from_bits((bits & 0x807FFFFF) | bits % 143 << 23);
      halves.push_back(std::abs(half) < 65520.0f ? half : 65504.0f);
      const auto other = static_cast<std::uint32_t>(random());
      bfloats.push_back(from_bits((other & 0x807FFFFF) | other % 190 << 23));
      // Ties: the last kept bit may be odd or even.
      bfloats.push_back(from_bits((other & 0x807F0000) | 0x8000 | other % 190 << 23));
    }
    expect_rounding(Dtype::float16, halves, as_half);
    expect_rounding(Dtype::bfloat16, bfloats, as_bfloat);
  }
  expect_rounding(Dtype::float16, {0.0f, -0.0f, 0x1p-24f, -0x1p-25f, 0x1.8p-25f, 0x1p-149f, 65504.0f},
                  as_half);
  expect_rounding(Dtype::bfloat16, {0.0f, -0.0f, 0x1p-133f, 0x1p-134f, 0x1.8p-134f, -0x1p-149f}, as_bfloat);
}

TEST(float32_is_kept_bit_by_bit) {
  std::mt19937 random(92);
  for (const std::size_t dim : {1u, 3u, 64u, 385u}) {
    const Vector v = random_vector(random, dim);
    CHECK(kept(config_of(dim, Dtype::float32), v.data()) == v);
  }
}

TEST(int8_keeps_whole_multiples_of_its_own_step_and_their_scales) {
  std::mt19937 random(93);
  for (const Metric metric : every_metric) {
    for (const std::size_t dim : {1u, 2u, 63u, 64u, 65u, 130u, 384u}) {
      for (const float size : {1e-33f, 1e-3f, 1.0f, 1e15f}) {
        const Originals originals(config_of(dim, Dtype::int8, metric));
        Vector v = random_vector(random, dim);
        for (float& x : v) x *= size;
        std::vector<std::byte> row(originals.bytes(), std::byte{0x55});
        const float inverse = originals.store(v.data(), row.data());
        Vector back(dim);
        originals.load(row.data(), back.data());

        const std::size_t padded = (dim + 63) / 64 * 64;
        CHECK_EQ(row.size(), padded + sizeof(Scales));
        Scales scales{};
        std::memcpy(&scales, row.data() + padded, sizeof(scales));
        double largest = 0;
        for (const float x : v) largest = std::max(largest, std::abs(static_cast<double>(x)));
        CHECK(std::abs(scales.step / (largest / 127) - 1) < 1e-6);
        double integers = 0;
        double squares = 0;
        for (std::size_t i = 0; i < padded; ++i) {
          const auto whole = static_cast<std::int8_t>(row[i]);
          integers += whole * whole;
          if (i >= dim) {
            CHECK_EQ(static_cast<int>(whole), 0);
            continue;
          }
          CHECK(whole >= -127);
          CHECK_EQ(back[i], scales.step * static_cast<float>(whole));
          CHECK(std::abs(static_cast<double>(v[i]) - back[i]) <= 0.5001 * scales.step);
          squares += static_cast<double>(back[i]) * back[i];
        }
        CHECK(std::abs(inverse * std::sqrt(squares) - 1) < 1e-6);
        const double factor = metric == Metric::cosine ? 1 / std::sqrt(integers) : scales.step;
        CHECK(std::abs(scales.factor / factor - 1) < 1e-6);
        if (metric == Metric::l2) {
          CHECK(std::abs(scales.term - squares) <= 1e-6 * squares + 1e-44);
        } else {
          CHECK_EQ(scales.term, 0.0f);
        }
      }
    }
  }
}

TEST(int8_keeps_zero_and_the_smallest_numbers) {
  // Fractions of the smallest steps cannot be told apart, but nothing grows or changes its sign.
  for (const float x : {0.0f, 1e-45f, 1e-43f, 2.6e-43f, 1e-40f, FLT_MIN, 200 * FLT_MIN}) {
    const Vector v{x, -x, x / 2, 0};
    const Vector back = kept(config_of(4, Dtype::int8), v.data());
    for (std::size_t i = 0; i < v.size(); ++i) {
      CHECK(std::abs(static_cast<double>(v[i]) - back[i]) <=
            std::max(0.51 * x / 127, static_cast<double>(FLT_MIN)));
      CHECK(v[i] * 1e30f * (back[i] * 1e30f) >= 0);
    }
  }
}
