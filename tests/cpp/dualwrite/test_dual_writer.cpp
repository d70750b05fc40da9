// A DualWriter stepped by hand: what each lane holds after each kind of write, and what is refused.
#include <chrono>
#include <limits>

#include "dualwrite/writer_world.h"

using namespace embedcore::test; // NOLINT
using embedcore::Code;
using embedcore::Status;
using Items = std::map<std::int64_t, float>;

namespace {

constexpr std::size_t everything = std::numeric_limits<std::size_t>::max();

struct Two {
  explicit Two(std::size_t capacity = 8) : writer(open({lane_to(a), lane_to(b)}, options(capacity, 0))) {}
  void step() {
    for (const auto lane : writer->lanes()) CHECK(writer->step(lane, everything).ok());
  }
  std::shared_ptr<MapTarget> a = std::make_shared<MapTarget>(), b = std::make_shared<MapTarget>();
  std::unique_ptr<DualWriter> writer;
};

} // namespace

TEST(writer_brings_every_write_to_every_lane) {
  Two two;
  CHECK_EQ(upsert(*two.writer, {1, 2}, 1, 2).value(), std::uint64_t{2});
  CHECK_EQ(upsert(*two.writer, {2, 3}, 2, 2).value(), std::uint64_t{4});
  CHECK_EQ(remove(*two.writer, {1}).value(), std::uint64_t{5});
  CHECK(two.a->items().empty());
  CHECK(two.writer->wait(5, at_once()).error().code == Code::deadline_exceeded);
  CHECK_EQ(two.writer->step(0, 3).value(), std::size_t{3});
  CHECK(two.a->items() == (Items{{1, 1}, {2, 2}}));
  CHECK_EQ(two.writer->stats(0).value().applied, std::uint64_t{3});
  CHECK_EQ(two.writer->stats(0).value().lag, std::uint64_t{2});
  two.step();
  CHECK(two.writer->wait(5, at_once()).ok());
  for (const auto& target : {two.a, two.b}) CHECK(target->items() == (Items{{2, 2}, {3, 2}}));
  CHECK_EQ(two.writer->stats(1).value().successes, std::uint64_t{5});
}

TEST(writer_says_that_the_ring_is_full_and_takes_nothing) {
  Two two(3);
  CHECK(upsert(*two.writer, {1, 2}, 1, 2, at_once()).ok());
  CHECK(upsert(*two.writer, {3, 4}, 1, 2, at_once()).error().code == Code::resource_exhausted);
  CHECK(upsert(*two.writer, {3}, 1, 2, at_once()).ok());
  CHECK(remove(*two.writer, {3}, at_once()).error().code == Code::resource_exhausted);
  CHECK_EQ(two.writer->step(0, 2).value(), std::size_t{2});
  CHECK(!upsert(*two.writer, {4}, 1, 2, at_once()).ok()); // the other lane is still a ring behind
  CHECK_EQ(two.writer->step(1, 1).value(), std::size_t{1});
  CHECK(upsert(*two.writer, {4}, 1, 2, at_once()).ok());
  CHECK_EQ(two.writer->stats().refusals, std::uint64_t{3});
  CHECK(upsert(*two.writer, {5, 6, 7, 8}, 1, 2, at_once()).error().code == Code::invalid_argument);
  two.step();
  CHECK(two.a->items() == (Items{{1, 1}, {2, 1}, {3, 1}, {4, 1}}));
  CHECK(two.a->log() == two.b->log());
}

TEST(writer_refuses_bad_input_whole) {
  Two two;
  const std::vector<float> good{1, 1, 1, 1, 2, 2, 2, 2};
  const std::vector<float> bad{1, 1, 1, 1, 2, 2, std::numeric_limits<float>::quiet_NaN(), 2};
  const auto code = [&](Ids ids, std::vector<Writes::Rows> rows, std::vector<std::uint64_t> sequences = {}) {
    Writes writes;
    writes.ids = ids;
    writes.rows = rows;
    writes.sequences = sequences;
    return two.writer->write(writes).error().code;
  };
  const Writes::Rows ok{good.data(), world_dim};
  CHECK(code({1, 1}, {ok, ok}) == Code::invalid_argument);
  CHECK(code({1, -2}, {ok, ok}) == Code::invalid_argument);
  CHECK(code({1, 2}, {ok, {bad.data(), world_dim}}) == Code::invalid_argument);
  CHECK(code({1, 2}, {ok, {good.data(), 3}}) == Code::invalid_argument);
  CHECK(code({1, 2}, {ok, ok, ok}) == Code::invalid_argument);
  CHECK(code({1, 2}, {ok, ok}, {1}) == Code::invalid_argument);
  CHECK(code({1, 2}, {ok, ok}, {0, 1}) == Code::invalid_argument);
  CHECK(code({1, 2}, {ok, ok}, {2, 2}) == Code::invalid_argument);
  CHECK(two.writer->wait(1).error().code == Code::invalid_argument); // never given out
  CHECK_EQ(two.writer->stats().entries, std::uint64_t{0});
  CHECK(upsert(*two.writer, {1}, 1, 2).ok());
  CHECK(upsert(*two.writer, {1}, 1, 2, {}, {9}).error().code == Code::failed_precondition);
}

TEST(writer_takes_an_older_vector_out_of_a_lane_that_has_none_yet) {
  Two two;
  CHECK(upsert(*two.writer, {1, 2}, 1, 2).ok());
  CHECK(upsert(*two.writer, {1}, 2, 1).ok()); // the second lane has no vector yet
  two.step();
  CHECK(two.a->items() == (Items{{1, 2}, {2, 1}}));
  CHECK(two.b->items() == (Items{{2, 1}}));
  const auto failures = two.writer->failures(1).value();
  CHECK_EQ(failures.size(), std::size_t{1});
  CHECK_EQ(failures[0].id, 1);
  CHECK_EQ(failures[0].sequence, std::uint64_t{3});
  CHECK_EQ(failures[0].reason, std::string("no vector yet"));
  CHECK_EQ(two.writer->stats(1).value().missing, std::uint64_t{1});
  CHECK(upsert(*two.writer, {1}, 3, 2).ok());
  two.step();
  CHECK(two.writer->failures(1).value().empty());
  CHECK(two.b->items() == (Items{{1, 3}, {2, 1}}));
}

TEST(writer_records_what_a_lane_cannot_apply_and_goes_on) {
  Two two;
  CHECK(upsert(*two.writer, {1, 2, 3}, 1, 2).ok());
  two.step();
  two.b->refused_id = 2;
  const auto ticket = upsert(*two.writer, {1, 2, 3}, 2, 2).value();
  two.step();
  CHECK(two.writer->wait(ticket, at_once()).ok());
  CHECK(two.a->items() == (Items{{1, 2}, {2, 2}, {3, 2}}));
  CHECK(two.b->items() == (Items{{1, 2}, {3, 2}})); // not the version before
  CHECK_EQ(two.writer->failures(1).value().size(), std::size_t{1});
  CHECK_EQ(two.writer->failures(1).value()[0].reason, std::string("no room for this one"));
  CHECK_EQ(two.writer->stats(1).value().successes, std::uint64_t{5});
  CHECK_EQ(two.writer->stats(1).value().failures, std::uint64_t{1});
}

TEST(writer_lets_an_older_version_never_win) {
  Two two;
  CHECK_EQ(upsert(*two.writer, {1, 2}, 10, 2, {}, {10, 11}).value(), std::uint64_t{11});
  CHECK_EQ(upsert(*two.writer, {1, 3}, 5, 2, {}, {5, 6}).value(), std::uint64_t{6});
  CHECK_EQ(remove(*two.writer, {2}, {}, {20}).value(), std::uint64_t{20});
  CHECK_EQ(upsert(*two.writer, {2}, 12, 2, {}, {12}).value(), std::uint64_t{12}); // no resurrection
  CHECK(two.writer->wait(6, at_once()).error().code == Code::deadline_exceeded);
  two.step();
  CHECK(two.writer->wait(6, at_once()).ok());
  CHECK(two.a->items() == (Items{{1, 10}, {3, 5}}));
  CHECK_EQ(two.writer->stats(0).value().ignored, std::uint64_t{2});
  CHECK_EQ(two.writer->stats(0).value().applied, std::uint64_t{20});
}

TEST(writer_writes_to_chosen_lanes_only) {
  Two two;
  const std::vector<float> vector{7, 1, 1, 1};
  const std::vector<Writes::Rows> rows{{}, {vector.data(), world_dim}};
  const std::vector<std::uint32_t> only{1};
  const Ids ids{4};
  Writes writes;
  writes.ids = ids;
  writes.rows = rows;
  writes.only_lanes = std::span<const std::uint32_t>(only);
  CHECK(upsert(*two.writer, {4}, 1, 2).ok());
  CHECK(two.writer->write(writes).ok());
  two.step();
  CHECK(two.a->items() == (Items{{4, 1}}));
  CHECK(two.b->items() == (Items{{4, 7}}));
}

TEST(writer_closes_with_and_without_what_is_left) {
  {
    Two two;
    CHECK(upsert(*two.writer, {1, 2}, 1, 2).ok());
    CHECK(two.writer->close(true).ok());
    CHECK(two.writer->close(true).ok());
    CHECK_EQ(two.b->items().size(), std::size_t{2});
    CHECK(two.writer->wait(2).ok());
    CHECK(upsert(*two.writer, {3}, 1, 2).error().code == Code::unavailable);
    CHECK(two.writer->attach(lane_to(two.a)).error().code == Code::unavailable);
  }
  Two two;
  CHECK(upsert(*two.writer, {1, 2}, 1, 2).ok());
  CHECK_EQ(two.writer->step(0, 1).value(), std::size_t{1});
  CHECK(two.writer->close(false).ok());
  CHECK_EQ(two.a->items().size(), std::size_t{1});
  CHECK_EQ(two.writer->failures(0).value().size(), std::size_t{1});
  CHECK_EQ(two.writer->failures(1).value().size(), std::size_t{2});
  CHECK(two.writer->wait(2, at_once()).ok()); // each is applied or on record
}

TEST(writer_counts_a_publish_gap_once) {
  Options wanted = options(8, 0);
  wanted.gap_threshold = std::chrono::nanoseconds(1);
  const auto target = std::make_shared<MapTarget>();
  const auto writer = open({lane_to(target)}, wanted);
  CHECK(upsert(*writer, {1}, 1, 1).ok());
  DualWriterTestPeer::claim_and_die(*writer);
  CHECK(upsert(*writer, {2}, 1, 1).ok()); // accepted, and stuck behind the gap
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(writer->step(0, everything).value(), std::size_t{i == 0 ? 1u : 0u});
    static_cast<void>(writer->stats());
  }
  CHECK_EQ(writer->stats().publish_gaps, std::uint64_t{1});
  CHECK_EQ(writer->stats().in_flight, std::uint64_t{2});
  CHECK(target->items() == (Items{{1, 1}}));
  CHECK(writer->close(true).ok()); // and does not hang
}

TEST(gap_watch_counts_by_the_time_it_is_told) {
  GapWatch watch(10);
  CHECK(!watch.look(5, 5, 0));
  CHECK(!watch.look(5, 6, 1));
  CHECK(!watch.look(5, 7, 10));
  CHECK(watch.look(5, 7, 11));
  CHECK(watch.look(5, 9, 12));
  CHECK_EQ(watch.count(), std::uint64_t{1});
  CHECK(!watch.look(6, 9, 13)); // another producer
  CHECK(watch.look(6, 9, 23));
  CHECK_EQ(watch.count(), std::uint64_t{2});
  CHECK(!watch.look(9, 9, 24));
}
