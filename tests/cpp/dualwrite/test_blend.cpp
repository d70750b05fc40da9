// The blend by hand: small lists with results that can be worked out on paper. Random lists are held
// against an independent implementation in tests/python/dualwrite.
#include "dualwrite/blend.h"

#include <cmath>
#include <memory>
#include <vector>

#include "check.h"

using namespace embedcore::dualwrite;

namespace {

struct Held {
  std::vector<std::int64_t> ids;
  std::vector<float> distances;
  [[nodiscard]] List list() const { return {ids, distances}; }
};

std::vector<std::int64_t> ids_of(const std::vector<Scored>& scored) {
  std::vector<std::int64_t> ids;
  for (const Scored& s : scored) ids.push_back(s.id);
  return ids;
}

// x -> 10 x
ScoreCalibration tenfold() {
  const std::vector<double> x = {0, 1, 2, 3, 4, 5, 6, 7};
  const std::vector<double> y = {0, 10, 20, 30, 40, 50, 60, 70};
  return ScoreCalibration::fit(x, y).value();
}

const Held source{{1, 2, 3}, {0.1f, 0.2f, 0.3f}};
const Held target{{4, 2, 5}, {1.0f, 2.0f, 3.0f}};

} // namespace

TEST(blend_weight_zero_and_one_are_that_side_exactly) {
  const ScoreCalibration calibration = tenfold();
  std::vector<Scored> out;
  blend(source.list(), target.list(), 0, &calibration, 10, {}, out);
  CHECK(ids_of(out) == source.ids);
  CHECK_EQ(out[2].distance, double(0.3f)); // not calibrated
  blend(source.list(), target.list(), 1, &calibration, 10, {}, out);
  CHECK(ids_of(out) == target.ids);
  blend(source.list(), target.list(), 1, &calibration, 2, {}, out);
  CHECK(ids_of(out) == (std::vector<std::int64_t>{4, 2}));
}

TEST(blend_mixes_calibrated_scores) {
  const ScoreCalibration calibration = tenfold();
  std::vector<Scored> out;
  blend(source.list(), target.list(), 0.5, &calibration, 10, {}, out);
  // 1: (1 + 3) / 2, 2: (2 + 2) / 2, 3: (3 + 3) / 2, 4: (3 + 1) / 2, 5: (3 + 3) / 2; ties by id.
  CHECK(ids_of(out) == (std::vector<std::int64_t>{1, 2, 4, 3, 5}));
  CHECK(std::abs(out[0].distance - 2.0) < 1e-6);
  CHECK(std::abs(out[4].distance - 3.0) < 1e-6);
}

TEST(blend_item_that_the_target_lacks_keeps_its_source_score) {
  const ScoreCalibration calibration = tenfold();
  const bool held[] = {false, true, true};
  std::vector<Scored> out;
  blend(source.list(), target.list(), 0.9, &calibration, 10, held, out);
  CHECK_EQ(out[0].id, 1);
  CHECK(std::abs(out[0].distance - 1.0) < 1e-6);
}

TEST(blend_gives_nothing_for_being_in_both_lists) {
  // 7 is second in both lists; 1 and 4 are nearer, each in one list, and not held or not known elsewhere.
  const Held old_list{{1, 7}, {0.1f, 0.4f}};
  const Held new_list{{4, 7}, {0.1f, 0.4f}};
  const bool held[] = {false, true};
  std::vector<Scored> out;
  blend(old_list.list(), new_list.list(), 0.5, nullptr, 3, held, out);
  CHECK(ids_of(out) == (std::vector<std::int64_t>{1, 4, 7}));
}

TEST(blend_empty_lists) {
  const Held none;
  std::vector<Scored> out;
  blend(none.list(), none.list(), 0.5, nullptr, 3, {}, out);
  CHECK(out.empty());
  blend(source.list(), none.list(), 0.5, nullptr, 2, {}, out);
  CHECK(ids_of(out) == (std::vector<std::int64_t>{1, 2}));
  CHECK_EQ(out[0].distance, double(0.1f));
  blend(none.list(), target.list(), 0.5, nullptr, 9, {}, out);
  CHECK(ids_of(out) == target.ids);
}

TEST(blend_list_ends_at_padding) {
  const Held padded{{1, 2, -1, -1}, {0.1f, 0.2f, INFINITY, INFINITY}};
  std::vector<Scored> out;
  blend(padded.list(), padded.list(), 0.5, nullptr, 4, {}, out);
  CHECK(ids_of(out) == (std::vector<std::int64_t>{1, 2}));
}

TEST(join_knows_each_side_where_it_is_listed) {
  std::vector<Candidate> out;
  join(source.list(), target.list(), out);
  CHECK_EQ(out.size(), std::size_t{5});
  CHECK_EQ(out[1].id, 2);
  CHECK_EQ(out[1].source, double(0.2f));
  CHECK_EQ(out[1].target, 2.0);
  CHECK(std::isnan(out[0].target));
  CHECK(std::isnan(out[3].source));
}

TEST(rank_orders_ties_by_id) {
  const std::vector<Candidate> candidates = {{9, 1, 1}, {3, 1, 1}, {5, 0.5, 0.5}, {4, 1, 1}};
  std::vector<Scored> out;
  rank(candidates, 0.5, nullptr, 3, out);
  CHECK(ids_of(out) == (std::vector<std::int64_t>{5, 3, 4}));
}
