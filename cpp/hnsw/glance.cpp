#include "hnsw/glance.h"

#include <algorithm>
#include <limits>

namespace embedcore::hnsw {

namespace {

// Two lose 2% of the rows at the edge of what a walk keeps and none well inside, for 15 of 24 lines a row.
constexpr double deviations = 2.0;
constexpr double fewest_rows = 256;
constexpr double least_slope = 0.1; // of the whole over the part, below which the part says next to nothing

} // namespace

void PartFit::add(double part, double whole) {
  n += 1;
  p += part;
  pp += part * part;
  d += whole;
  dd += whole * whole;
  pd += part * whole;
  const double s = whole > 0 ? part / whole : 1;
  share += s;
  shares += s * s;
}

PartLimit PartFit::limit(bool l2) const {
  if (n < fewest_rows) return {};
  const auto deviation = [](double squared) { return std::sqrt(std::max(0.0, squared)); };
  if (l2) {
    const double mean = share / n;
    const double most = mean + deviations * deviation(shares / n - mean * mean);
    return {static_cast<float>(std::min(1.0, most)), 0};
  }
  const double spread = pp / n - p / n * (p / n);
  const double slope = (pd / n - p / n * (d / n)) / spread;
  if (!(spread > 1e-9 * pp / n) || !(slope > least_slope)) return {}; // what is less is rounding
  const double shift = d / n - slope * (p / n);
  const double error = deviation(dd / n - d / n * (d / n) - slope * slope * spread);
  return {static_cast<float>(1 / slope), static_cast<float>((deviations * error - shift) / slope)};
}

void Glance::lend(std::size_t dim, std::size_t value_bytes, Walk& walk) const {
  const Limits now = limits();
  if (now[0].slope == 0) return;
  walk.part_dims = part_dims(dim);
  walk.part_lines = walk.part_dims * value_bytes / 64;
  for (std::size_t i = 0; i < now.size(); ++i) {
    walk.limits[i] = now[i];
    if (now[i].slope == 0) walk.limits[i].shift = std::numeric_limits<float>::infinity();
  }
}

} // namespace embedcore::hnsw
