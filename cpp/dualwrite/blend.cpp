// Joining, scoring and ranking two result lists.
#include "dualwrite/blend.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

namespace embedcore::dualwrite {

namespace {

void take(const List& list, std::size_t k, std::vector<Scored>& out) {
  out.clear();
  const std::size_t n = std::min(k, list.size());
  for (std::size_t i = 0; i < n; ++i) out.push_back({list.distances[i], list.ids[i]});
}

double known_minimum(double a, double b) {
  if (std::isnan(a)) return b;
  return std::isnan(b) ? a : std::min(a, b);
}

} // namespace

std::size_t List::size() const {
  return static_cast<std::size_t>(
      std::find_if(ids.begin(), ids.end(), [](std::int64_t id) { return id < 0; }) - ids.begin());
}

void join(const List& source, const List& target, std::vector<Candidate>& out) {
  out.clear();
  const std::size_t n = source.size();
  const std::size_t m = target.size();
  out.reserve(n + m);
  for (std::size_t i = 0; i < n; ++i) out.push_back({source.ids[i], source.distances[i], unknown});
  for (std::size_t i = 0; i < m; ++i) out.push_back({target.ids[i], unknown, target.distances[i]});
  std::sort(out.begin(), out.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (kept > 0 && out[kept - 1].id == out[i].id) {
      out[kept - 1].source = known_minimum(out[kept - 1].source, out[i].source);
      out[kept - 1].target = known_minimum(out[kept - 1].target, out[i].target);
    } else {
      out[kept++] = out[i];
    }
  }
  out.resize(kept);
}

double blended(const Candidate& candidate, double weight, const ScoreCalibration* calibration) {
  if (std::isnan(candidate.source)) return candidate.target;
  const double source = calibration == nullptr ? candidate.source : (*calibration)(candidate.source);
  if (std::isnan(candidate.target)) return source;
  return (1 - weight) * source + weight * candidate.target;
}

void rank(std::span<const Candidate> candidates, double weight, const ScoreCalibration* calibration,
          std::size_t k, std::vector<Scored>& out) {
  out.clear();
  out.reserve(candidates.size());
  for (const Candidate& candidate : candidates) {
    out.push_back({blended(candidate, weight, calibration), candidate.id});
  }
  const auto nearer = [](const Scored& a, const Scored& b) {
    return a.distance < b.distance || (a.distance == b.distance && a.id < b.id);
  };
  const std::size_t n = std::min(k, out.size());
  std::partial_sort(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(n), out.end(), nearer);
  out.resize(n);
}

void blend(const List& source, const List& target, double weight, const ScoreCalibration* calibration,
           std::size_t k, std::span<const bool> held, std::vector<Scored>& out) {
  if (weight <= 0) return take(source, k, out);
  if (weight >= 1) return take(target, k, out);
  std::unordered_set<std::int64_t> lacking; // ids the target does not hold
  if (!held.empty()) {
    const std::size_t n = source.size();
    for (std::size_t i = 0; i < n; ++i) {
      if (!held[i]) lacking.insert(source.ids[i]);
    }
  }
  const double last_source = source.size() > 0 ? source.distances[source.size() - 1] : unknown;
  const double last_target = target.size() > 0 ? target.distances[target.size() - 1] : unknown;
  std::vector<Candidate> candidates;
  join(source, target, candidates);
  for (Candidate& candidate : candidates) {
    if (std::isnan(candidate.source)) candidate.source = last_source;
    if (std::isnan(candidate.target) && !lacking.contains(candidate.id)) candidate.target = last_target;
  }
  rank(candidates, weight, calibration, k, out);
}

} // namespace embedcore::dualwrite
