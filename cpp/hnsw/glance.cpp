#include "hnsw/glance.h"

#include <algorithm>
#include <limits>

namespace embedcore::hnsw {

namespace {

constexpr double fewest_rows = 256;
constexpr double least_slope = 0.1; // of the whole over the part, below which the part says next to nothing
constexpr double rounding = 1e-9;   // a spread that is smaller, of the squares it comes from, is none

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
  share_ += share;
  shares_ += share * share;
}

PartLimit PartFit::of_shares(double deviations) const {
  const double mean = share_ / n_;
  const double most = mean + deviations * root(shares_ / n_ - mean * mean);
  return {static_cast<float>(std::min(1.0, most)), 0, 0};
}

// Least squares of the whole over the part and what the query has of its own in the rest.
PartLimit PartFit::limit(bool l2, double deviations) const {
  if (n_ < fewest_rows) return {};
  if (l2) return of_shares(deviations);
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
  return {static_cast<float>(1 / slope), static_cast<float>((deviations * error - shift) / slope),
          static_cast<float>(-own / slope)};
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
  walk.part_dims = part_dims(dim);
  walk.part_lines = walk.part_dims * value_bytes / 64;
  float own = 0; // from the last part back
  for (std::size_t i = count(dim); i-- > 0;) {
    const std::size_t from = (i + 1) * walk.part_dims;
    own += kernels.dot(query + from, query + from, std::min(walk.part_dims, dim - from));
    const PartLimit& limit = now[i];
    walk.part_slopes[i] = limit.slope;
    walk.part_shifts[i] =
        limit.slope == 0 ? std::numeric_limits<float>::infinity() : limit.shift + limit.own * own;
  }
}

} // namespace embedcore::hnsw
