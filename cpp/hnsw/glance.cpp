#include "hnsw/glance.h"

#include <algorithm>
#include <limits>

#include "common/mutant.h"

namespace embedcore::hnsw {

namespace {

constexpr double fewest_rows = 256;
constexpr double least_slope = 0.1;   // of the whole over the part, below which the part says next to nothing
constexpr double beyond = 0.25;       // of the range of r that was seen, on either side
constexpr double least_margin = 1e-3; // where it is no range
constexpr double rounding = 1e-9;     // a spread that is smaller, of the squares it comes from, is none

double root(double squared) { return std::sqrt(std::max(0.0, squared)); }

} // namespace

void PartFit::add(double part, double own, double whole) {
  n_ += 1;
  p_ += part;
  o_ += own;
  d_ += whole;
  pp_ += part * part;
  oo_ += own * own;
  dd_ += whole * whole;
  po_ += part * own;
  pd_ += part * whole;
  od_ += own * whole;
  const double share = whole > 0 ? part / whole : 1;
  least_ = std::min(least_, own);
  most_ = std::max(most_, own);
  share_ += share;
  shares_ += share * share;
}

PartLimit PartFit::of_shares(double deviations) const {
  const double mean = share_ / n_;
  const double most = mean + deviations * root(shares_ / n_ - mean * mean);
  return {static_cast<float>(std::min(1.0, most)), 0, 0, 0, 0, 0};
}

PartLimit PartFit::limit(bool l2, double deviations) const {
  if (n_ < fewest_rows) return {};
  PartLimit limit = l2 ? of_shares(deviations) : of_sums(deviations);
  const double margin = beyond * (most_ - least_) + least_margin;
  limit.least = static_cast<float>(least_ - margin);
  limit.most = static_cast<float>(most_ + margin);
  return limit;
}

// Least squares of the whole over the part and what the query has of its own in the rest.
PartLimit PartFit::of_sums(double deviations) const {
  const auto product = [this](double xy, double x, double y) { return xy / n_ - x / n_ * (y / n_); };
  const double pp = product(pp_, p_, p_);
  const double oo = product(oo_, o_, o_);
  const double po = product(po_, p_, o_);
  const double pd = product(pd_, p_, d_);
  const double od = product(od_, o_, d_);
  if (!(pp > rounding * pp_ / n_)) return {};
  const double area = pp * oo - po * po;
  const bool varied = oo > rounding * oo_ / n_ && area > rounding * pp * oo;
  const double own = varied ? (od * pp - pd * po) / area : 0;
  const double slope = (pd - own * po) / pp;
  if (!(slope > least_slope)) return {};
  const double shift = d_ / n_ - slope * (p_ / n_) - own * (o_ / n_);
  const double error = root(product(dd_, d_, d_) - slope * pd - own * od);
  return {static_cast<float>(1 / slope),
          static_cast<float>((deviations * error - shift) / slope),
          static_cast<float>(-own / slope),
          0,
          0,
          0};
}

void Glance::set(const Limits& limits) {
  auto kept = std::make_unique<const Limits>(limits);
  const std::lock_guard lock(mutex_);
  all_.push_back(std::move(kept));
  now_.store(all_.back().get(), std::memory_order_release);
}

void Glance::lend(const Kernels& kernels, const float* query, std::size_t dim, std::size_t value_bytes,
                  Walk& walk) const {
  const Limits& now = limits();
  if (now[0].slope == 0) return;
  const std::size_t part = part_dims(dim);
  std::array<float, most_part_limits + 1> rest{}; // squares from each part on
  for (std::size_t i = count(dim) + 1; i-- > 0;) {
    const float* from = query + i * part;
    rest[i] = (i < count(dim) ? rest[i + 1] : 0.0f) + kernels.dot(from, from, std::min(part, dim - i * part));
  }
  for (std::size_t i = 0; i < count(dim); ++i) {
    const PartLimit& limit = now[i];
    const float own = rest[i + 1] / rest[0];
    const bool known = limit.slope != 0 && own >= limit.least && own <= limit.most;
    walk.part_slopes[i] = limit.slope;
    walk.part_floors[i] = mutant("no_floor") ? 0.0f : limit.floor;
    walk.part_shifts[i] = known ? limit.shift + limit.own * own : std::numeric_limits<float>::infinity();
    if (known) walk.part_dims = part;
  }
  walk.part_lines = walk.part_dims == 0 ? walk.part_lines : part * value_bytes / 64;
}

} // namespace embedcore::hnsw
