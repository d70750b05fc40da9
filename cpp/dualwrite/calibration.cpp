// Fitting and evaluating a ScoreCalibration; its file format is in calibration_io.cpp.
#include "dualwrite/calibration.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace embedcore::dualwrite {

namespace {

Pool joined(const Pool& a, const Pool& b) {
  const auto n = static_cast<double>(a.pairs);
  const auto m = static_cast<double>(b.pairs);
  const double low = std::min(a.low, b.low);
  const double high = std::max(a.high, b.high);
  // Clamped against rounding: pools do not overlap, so neither do their means.
  return {std::clamp((a.source * n + b.source * m) / (n + m), low, high),
          (a.target * n + b.target * m) / (n + m), low, high, a.pairs + b.pairs};
}

// Joins neighbours into runs of about equal numbers of pairs. Means of runs of an increasing sequence
// increase, so the order of the fit is kept.
std::vector<Pool> compressed(std::vector<Pool> pools, std::uint64_t pairs, std::size_t most) {
  if (pools.size() <= most) return pools;
  std::vector<Pool> runs;
  std::uint64_t before = 0;
  std::size_t last_run = most;
  for (const Pool& pool : pools) {
    // The middle of the pool decides, so that one large pool cannot push the runs after it together.
    const std::uint64_t middle = before + pool.pairs / 2;
    const std::size_t run = std::min<std::size_t>(most - 1, middle * most / pairs);
    if (run == last_run) {
      runs.back() = joined(runs.back(), pool);
    } else {
      runs.push_back(pool);
    }
    last_run = run;
    before += pool.pairs;
  }
  return runs;
}

// Slope of the chord from one end to the nearest knot at least an eighth of the range away.
double end_slope(const std::vector<double>& x, const std::vector<double>& y, bool low) {
  const std::size_t n = x.size();
  const double reach = (x.back() - x.front()) / 8;
  std::size_t other = low ? 1 : n - 2;
  const std::size_t end = low ? 0 : n - 1;
  while (other != n - 1 - end && std::abs(x[other] - x[end]) < reach) other += low ? 1 : -1;
  return (y[other] - y[end]) / (x[other] - x[end]);
}

Status checked(std::span<const double> source, std::span<const double> target) {
  if (source.size() != target.size()) {
    return {Code::invalid_argument, "a calibration needs pairs of scores, got " +
                                        std::to_string(source.size()) + " of the source and " +
                                        std::to_string(target.size()) + " of the target"};
  }
  if (source.size() < ScoreCalibration::min_pairs) {
    return {Code::invalid_argument,
            "a calibration needs at least " + std::to_string(ScoreCalibration::min_pairs) +
                " pairs of scores, got " + std::to_string(source.size()) + ": sample more queries"};
  }
  for (std::size_t i = 0; i < source.size(); ++i) {
    // Distances are float32; what does not fit into one is not a distance.
    if (!std::isfinite(static_cast<float>(source[i])) || !std::isfinite(static_cast<float>(target[i]))) {
      return {Code::invalid_argument, "pair " + std::to_string(i) + " (" + std::to_string(source[i]) + ", " +
                                          std::to_string(target[i]) +
                                          ") is not finite: leave out items that one side does not hold"};
    }
  }
  return {};
}

} // namespace

std::vector<Pool> pool_adjacent_violators(std::span<const double> source, std::span<const double> target) {
  std::vector<std::size_t> order(source.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // Ties by target, so that the sums, and with them the result, do not depend on the caller's order.
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::pair(source[a], target[a]) < std::pair(source[b], target[b]);
  });
  std::vector<Pool> pools;
  for (std::size_t i = 0; i < order.size();) {
    Pool pool{source[order[i]], target[order[i]], source[order[i]], source[order[i]], 1};
    for (++i; i < order.size() && source[order[i]] == pool.low; ++i) {
      const double x = source[order[i]];
      pool = joined(pool, {x, target[order[i]], x, x, 1});
    }
    while (!pools.empty() && pools.back().target >= pool.target) {
      pool = joined(pools.back(), pool);
      pools.pop_back();
    }
    pools.push_back(pool);
  }
  return pools;
}

Result<ScoreCalibration> ScoreCalibration::fit(std::span<const double> source,
                                               std::span<const double> target) {
  if (const Status status = checked(source, target); !status.ok()) return status.error();
  const std::vector<Pool> pools =
      compressed(pool_adjacent_violators(source, target), source.size(), max_knots);
  const double width = pools.back().high - pools.front().low;
  const auto [least, most] = std::minmax_element(target.begin(), target.end());
  const double tiny = 1e-6 * (*most > *least && width > 0 ? (*most - *least) / width : 1.0);

  std::vector<double> x;
  std::vector<double> y;
  if (pools.size() > 1) {
    for (const Pool& pool : pools) {
      x.push_back(pool.source);
      y.push_back(pool.target);
    }
  } else { // one pool: no rising relation was seen, only a level
    const Pool& all = pools.front();
    const double half = width > 0 ? width / 2 : 1.0;
    const double rise = width > 0 ? tiny * half : 1.0;
    const double middle = (all.low + all.high) / 2;
    x = {middle - half, middle + half};
    y = {all.target - rise, all.target + rise};
  }
  for (std::size_t i = 1; i < x.size(); ++i) {
    y[i] = std::max(y[i], std::max(y[i - 1] + tiny * (x[i] - x[i - 1]), std::nextafter(y[i - 1], INFINITY)));
  }
  return ScoreCalibration(std::move(x), std::move(y), source.size());
}

ScoreCalibration::ScoreCalibration(std::vector<double> source, std::vector<double> target,
                                   std::uint64_t pairs)
    : source_(std::move(source)),
      target_(std::move(target)),
      pairs_(pairs),
      low_slope_(end_slope(source_, target_, true)),
      high_slope_(end_slope(source_, target_, false)) {}

double ScoreCalibration::operator()(double source) const {
  if (source <= source_.front()) return target_.front() + (source - source_.front()) * low_slope_;
  if (source >= source_.back()) return target_.back() + (source - source_.back()) * high_slope_;
  if (std::isnan(source)) return source;
  const auto right =
      static_cast<std::size_t>(std::upper_bound(source_.begin(), source_.end(), source) - source_.begin());
  const std::size_t left = right - 1;
  const double t = (source - source_[left]) / (source_[right] - source_[left]);
  return std::lerp(target_[left], target_[right], t); // monotone in t despite rounding
}

} // namespace embedcore::dualwrite
