// ScoreCalibration: a monotone map from one model's distances to another's.
//
// Distances of two models live on different scales, so results of two generations cannot be merged by
// comparing them. Items that both generations hold give free pairs (distance in the source, distance in
// the target) of one query and item; isotonic regression (pool adjacent violators; Barlow et al. 1972,
// "Statistical Inference under Order Restrictions", ch. 1) fits the best monotone map to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"

namespace embedcore::dualwrite {

// Piecewise linear, strictly increasing, at most 64 knots. Beyond the outer knots it goes on along the
// chord of the outermost eighth of the fitted range: bounded by the data even where two end knots nearly
// touch. Immutable; safe to call from any number of threads.
//
// File (little-endian; at most 1,048 bytes):
//   0   8   "EMBCCAL1"            what it is; the last character is the format's version
//   8   4   u32 knots (2 to 64)
//   12  8   u64 pairs fitted      how much evidence stands behind the map
//   20  8n  f64 source distance of each knot, strictly increasing
//   ..  8n  f64 target distance of each knot, strictly increasing
//   ..  4   u32 CRC32C of everything before it
class ScoreCalibration {
 public:
  static constexpr std::size_t max_knots = 64;
  static constexpr std::size_t min_pairs = 8;

  // Fits to pairs (source[i], target[i]); their order does not matter. invalid_argument: lengths differ,
  // fewer than 8 pairs, or a value that is not finite. Stretches that the fit would make flat get a slope
  // of a millionth of the mean slope, so that the source's order survives. Source distances that are all
  // equal say only where the target lies: the map is then the shift by that difference.
  static Result<ScoreCalibration> fit(std::span<const double> source, std::span<const double> target);

  // data_loss where the bytes are not what to_bytes wrote; read_file's errors for the file.
  static Result<ScoreCalibration> from_bytes(std::span<const std::byte> bytes);
  static Result<ScoreCalibration> load(const std::string& path);
  [[nodiscard]] std::vector<std::byte> to_bytes() const;
  [[nodiscard]] Status save(const std::string& path) const;

  // The target's distance that corresponds to a source distance. inf gives inf, NaN gives NaN.
  [[nodiscard]] double operator()(double source) const;

  [[nodiscard]] std::span<const double> knots_source() const { return source_; }
  [[nodiscard]] std::span<const double> knots_target() const { return target_; }
  [[nodiscard]] std::uint64_t pairs() const { return pairs_; }

 private:
  ScoreCalibration(std::vector<double> source, std::vector<double> target, std::uint64_t pairs);

  std::vector<double> source_;
  std::vector<double> target_;
  std::uint64_t pairs_;
  double low_slope_; // of the extrapolation below the first and above the last knot
  double high_slope_;
};

// The isotonic regression itself: maximal runs of equal fitted value, in ascending order of source.
struct Pool {
  double source; // mean source distance
  double target; // mean target distance = the fitted value
  double low;    // smallest and largest source distance
  double high;
  std::uint64_t pairs;
};
// Pre-condition: equal lengths, finite. Post-condition: source and target strictly increase (pairs of equal
// source share a pool).
[[nodiscard]] std::vector<Pool> pool_adjacent_violators(std::span<const double> source,
                                                        std::span<const double> target);

} // namespace embedcore::dualwrite
