// Blended reads: the result lists of a source and a target generation merged by score.
//
// Scores are distances, smaller is nearer. The source's are mapped onto the target's scale by a
// ScoreCalibration. An item known on both sides scores (1 - w) x calibrated source + w x target; an item
// that one side does not hold scores by the other side alone. Nothing is gained by being in both lists
// (reciprocal-rank fusion would favour whatever the half-filled target happens to hold already).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "dualwrite/calibration.h"

namespace embedcore::dualwrite {

inline constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

// One item of either list. At least one side is known.
struct Candidate {
  std::int64_t id = -1;
  double source = unknown; // distance in the source, on the source's scale; NaN: the source lacks it
  double target = unknown; // distance in the target; NaN: the target lacks it
};

// A result list: ascending distances. It ends at the first id below 0 (the padding of short lists).
struct List {
  std::span<const std::int64_t> ids;
  std::span<const float> distances;

  [[nodiscard]] std::size_t size() const;
};

// The items of both lists, each once, ascending by id; an item's side is known where that list has it.
// An item twice in a list counts with its smaller distance.
void join(const List& source, const List& target, std::vector<Candidate>& out);

// The blended distance. Null calibration: both sides share one scale.
[[nodiscard]] double blended(const Candidate& candidate, double weight, const ScoreCalibration* calibration);

struct Scored {
  double distance;
  std::int64_t id;
};

// The k nearest candidates by (blended distance, id). Order is decided in double precision.
void rank(std::span<const Candidate> candidates, double weight, const ScoreCalibration* calibration,
          std::size_t k, std::vector<Scored>& out);

// Merges two lists when only the lists are known. Weight 0 or 1: exactly the source's or the target's
// list, cut to k. Otherwise an item that a side holds but does not list has no known score there; it is
// given that list's last distance, the best it could have had. held[i] says whether the target holds
// source.ids[i]; empty means it holds all of them. The source holds everything the target does. An empty
// list says nothing of anybody's score, so it leaves the other side's alone.
// Pre-conditions: weight in [0, 1], distances of listed ids not NaN, held empty or as long as source.ids.
void blend(const List& source, const List& target, double weight, const ScoreCalibration* calibration,
           std::size_t k, std::span<const bool> held, std::vector<Scored>& out);

} // namespace embedcore::dualwrite
