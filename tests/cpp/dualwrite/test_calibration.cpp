// The calibration's own promises: monotone, bounded in size, refusing bad input, exact round trip, damage
// seen. Its values are held against an independent implementation in tests/python/dualwrite.
#include "dualwrite/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "common/crc32c.h"

using embedcore::Code;
using embedcore::dualwrite::pool_adjacent_violators;
using embedcore::dualwrite::ScoreCalibration;

namespace {

struct Pairs {
  std::vector<double> source;
  std::vector<double> target;
};

Pairs noisy(std::size_t n, unsigned seed, double noise) {
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::normal_distribution<double> normal(0, noise);
  Pairs pairs;
  for (std::size_t i = 0; i < n; ++i) {
    const double x = uniform(generator);
    pairs.source.push_back(x);
    pairs.target.push_back(0.2 + 0.5 * x * x + normal(generator));
  }
  return pairs;
}

ScoreCalibration fitted(const Pairs& pairs) {
  auto result = ScoreCalibration::fit(pairs.source, pairs.target);
  CHECK(result.ok());
  return std::move(result.value());
}

void check_increasing(const ScoreCalibration& calibration, double from, double to) {
  double before = calibration(from);
  for (int i = 1; i <= 20000; ++i) {
    const double now = calibration(from + (to - from) * i / 20000);
    CHECK(now > before);
    before = now;
  }
}

std::string scratch(const char* name) {
  return (std::filesystem::temp_directory_path() / (std::string("embedcore_") + name)).string();
}

} // namespace

TEST(calibration_is_exact_on_monotone_pairs) {
  Pairs pairs;
  for (int i = 0; i < 20; ++i) {
    pairs.source.push_back(0.1 * i);
    pairs.target.push_back(3.0 + std::sqrt(0.1 * i));
  }
  const ScoreCalibration calibration = fitted(pairs);
  for (std::size_t i = 0; i < 20; ++i) {
    CHECK(std::abs(calibration(pairs.source[i]) - pairs.target[i]) < 1e-12);
  }
}

TEST(calibration_increases_strictly_and_is_small) {
  for (const std::size_t n : {8, 9, 63, 64, 65, 200, 5000}) {
    for (const double noise : {0.0, 0.05, 2.0}) {
      const ScoreCalibration calibration = fitted(noisy(n, 17, noise));
      CHECK(calibration.knots_source().size() <= ScoreCalibration::max_knots);
      CHECK(calibration.knots_source().size() >= 2);
      CHECK_EQ(calibration.pairs(), n);
      check_increasing(calibration, -1, 2);
    }
  }
}

TEST(calibration_compressed_stays_close_to_the_truth) {
  const ScoreCalibration calibration = fitted(noisy(20000, 19, 0.02));
  for (double x = 0.05; x < 0.96; x += 0.01) {
    CHECK(std::abs(calibration(x) - (0.2 + 0.5 * x * x)) < 0.01);
  }
}

TEST(calibration_keeps_order_where_the_evidence_is_flat_or_falling) {
  Pairs falling;
  for (int i = 0; i < 50; ++i) {
    falling.source.push_back(i);
    falling.target.push_back(-i);
  }
  check_increasing(fitted(falling), -10, 60);
  CHECK(std::abs(fitted(falling)(25) + 24.5) < 1e-3); // flat at the mean
  Pairs flat = falling;
  std::fill(flat.target.begin(), flat.target.end(), 0.25);
  check_increasing(fitted(flat), -10, 60);
}

TEST(calibration_of_one_source_value_is_a_shift) {
  Pairs pairs{std::vector<double>(8, 0.5), {1, 2, 3, 4, 5, 6, 7, 8}};
  const ScoreCalibration calibration = fitted(pairs);
  CHECK_EQ(calibration(0.5), 4.5);
  CHECK_EQ(calibration(0.75), 4.75);
}

// The two lowest source distances nearly touch and their targets do not: following their own slope would
// send the next nearer distance to minus half a million.
TEST(calibration_extrapolates_by_the_data_not_by_two_close_knots) {
  Pairs pairs{{0.1, 0.1 + 1e-9, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}, {0.0, 0.05, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}};
  const ScoreCalibration calibration = fitted(pairs);
  CHECK(calibration(0.0) > -1);
  CHECK(calibration(0.0) < 0);
  CHECK(std::abs(calibration(0.9) - 0.9) < 1e-9);
}

TEST(calibration_passes_padding_through) {
  const ScoreCalibration calibration = fitted(noisy(100, 3, 0.01));
  CHECK_EQ(calibration(INFINITY), INFINITY);
  CHECK(std::isnan(calibration(NAN)));
}

TEST(calibration_refuses_bad_pairs) {
  Pairs good = noisy(8, 5, 0);
  Pairs bad = good;
  bad.target.pop_back();
  CHECK(ScoreCalibration::fit(bad.source, bad.target).error().code == Code::invalid_argument);
  bad.source.pop_back(); // 7 pairs
  CHECK(ScoreCalibration::fit(bad.source, bad.target).error().code == Code::invalid_argument);
  for (const double value : {double(NAN), double(INFINITY), 1e300}) {
    bad = good;
    bad.source[3] = value;
    CHECK(ScoreCalibration::fit(bad.source, bad.target).error().code == Code::invalid_argument);
    bad = good;
    bad.target[3] = value;
    CHECK(ScoreCalibration::fit(bad.source, bad.target).error().code == Code::invalid_argument);
  }
  CHECK(ScoreCalibration::fit(good.source, good.target).ok());
}

TEST(calibration_does_not_depend_on_the_order_of_pairs) {
  Pairs pairs = noisy(500, 23, 0.1);
  const auto bytes = fitted(pairs).to_bytes();
  std::reverse(pairs.source.begin(), pairs.source.end());
  std::reverse(pairs.target.begin(), pairs.target.end());
  CHECK(fitted(pairs).to_bytes() == bytes);
}

TEST(pools_increase_and_hold_every_pair) {
  const Pairs pairs = noisy(1000, 29, 0.3);
  const auto pools = pool_adjacent_violators(pairs.source, pairs.target);
  std::uint64_t held = 0;
  for (std::size_t i = 0; i < pools.size(); ++i) {
    held += pools[i].pairs;
    if (i == 0) continue;
    CHECK(pools[i].target > pools[i - 1].target);
    CHECK(pools[i].low > pools[i - 1].high);
  }
  CHECK_EQ(held, std::uint64_t{1000});
}

TEST(calibration_file_round_trip) {
  const std::string path = scratch("calibration.bin");
  const ScoreCalibration calibration = fitted(noisy(300, 31, 0.05));
  CHECK(calibration.save(path).ok());
  auto loaded = ScoreCalibration::load(path);
  CHECK(loaded.ok());
  if (loaded.ok()) {
    CHECK(loaded.value().to_bytes() == calibration.to_bytes());
    for (double x = -1; x < 2; x += 0.013) CHECK_EQ(loaded.value()(x), calibration(x));
  }
  std::filesystem::remove(path);
  CHECK(ScoreCalibration::load(path).error().code == Code::not_found);
}

TEST(calibration_every_damage_is_seen) {
  const auto bytes = fitted(noisy(40, 37, 0.05)).to_bytes();
  for (std::size_t i = 0; i < bytes.size(); ++i) { // any changed byte
    auto damaged = bytes;
    damaged[i] ^= std::byte{0x10};
    const auto result = ScoreCalibration::from_bytes(damaged);
    CHECK(!result.ok() && result.error().code == Code::data_loss);
  }
  for (std::size_t n = 0; n < bytes.size(); ++n) { // any truncation
    CHECK(!ScoreCalibration::from_bytes({bytes.data(), n}).ok());
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  CHECK(!ScoreCalibration::from_bytes(longer).ok());
}

// A right checksum over wrong knots: written by something else than to_bytes.
TEST(calibration_knots_that_fall_are_refused) {
  auto bytes = fitted(noisy(40, 41, 0.05)).to_bytes();
  std::swap_ranges(bytes.begin() + 20, bytes.begin() + 28, bytes.begin() + 28); // the first two knots
  const std::uint32_t crc = embedcore::crc32c(bytes.data(), bytes.size() - 4);
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, 4);
  CHECK(!ScoreCalibration::from_bytes(bytes).ok());
}
