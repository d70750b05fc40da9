// Lanes that come, go, change their index, and are parked, while the stream goes on; stepped by hand.
#include <limits>

#include "dualwrite/writer_world.h"

using namespace embedcore::test; // NOLINT
using embedcore::Code;
using Items = std::map<std::int64_t, float>;

namespace {

constexpr std::size_t everything = std::numeric_limits<std::size_t>::max();

std::shared_ptr<MapTarget> make() { return std::make_shared<MapTarget>(); }

void step_all(DualWriter& writer) {
  for (const auto lane : writer.lanes()) CHECK(writer.step(lane, everything).ok());
}

} // namespace

TEST(lanes_attached_now_receive_what_comes) {
  const auto a = make(), b = make();
  const auto writer = open({lane_to(a)}, options(8, 0));
  CHECK(upsert(*writer, {1}, 1, 1).ok());
  CHECK_EQ(writer->attach(lane_to(b)).value(), 1u);
  CHECK(upsert(*writer, {2}, 1, 2).ok());
  CHECK(upsert(*writer, {3}, 1, 1).ok()); // by a caller that does not know of it
  step_all(*writer);
  CHECK(a->items() == (Items{{1, 1}, {2, 1}, {3, 1}}));
  CHECK(b->items() == (Items{{2, 1}}));
  CHECK_EQ(writer->failures(1).value().size(), std::size_t{1});
}

TEST(lanes_attached_at_a_sequence_replay_from_there) {
  const auto a = make(), b = make(), c = make();
  const auto writer = open({lane_to(a)}, options(4, 0));
  for (int i = 1; i <= 3; ++i) CHECK(upsert(*writer, {i}, static_cast<float>(i), 1).ok());
  LaneSpec twin = lane_to(b);
  twin.vectors_of = 0;
  twin.from_sequence = 2;
  CHECK_EQ(writer->attach(twin).value(), 1u);
  LaneSpec own = lane_to(c); // another space: of what is in the ring it has no vectors
  own.from_sequence = 2;
  CHECK_EQ(writer->attach(own).value(), 2u);
  step_all(*writer);
  CHECK(b->items() == (Items{{2, 2}, {3, 3}}));
  CHECK(c->items().empty());
  CHECK_EQ(writer->failures(2).value().size(), std::size_t{2});

  for (int i = 4; i <= 8; ++i) {
    CHECK(upsert(*writer, {i}, 1, 1).ok());
    step_all(*writer);
  }
  LaneSpec late = lane_to(make());
  late.vectors_of = 0;
  late.from_sequence = 4; // 5 to 8 are there
  const auto refused = writer->attach(late);
  CHECK(refused.error().code == Code::invalid_argument);
  CHECK(refused.error().message.find("has left the ring") != std::string::npos);
  late.from_sequence = 10;
  CHECK(writer->attach(late).error().code == Code::invalid_argument);
  late.from_sequence = 5;
  CHECK_EQ(writer->attach(late).value(), 3u); // what was refused took no number
}

TEST(lanes_of_callers_numbers_are_placed_by_them) {
  const auto a = make(), b = make();
  const auto writer = open({lane_to(a)}, options(4, 0));
  const std::vector<std::uint64_t> numbers{10, 20, 30, 40, 50};
  for (const auto n : numbers) {
    CHECK(upsert(*writer, {static_cast<std::int64_t>(n)}, 1, 1, {}, {n}).ok());
    CHECK(writer->step(0, everything).ok());
  }
  LaneSpec twin = lane_to(b);
  twin.vectors_of = 0;
  twin.from_sequence = 15; // 20 is the oldest there; whether 15 was one before it is not known
  CHECK(writer->attach(twin).error().code == Code::invalid_argument);
  twin.from_sequence = 31;
  CHECK_EQ(writer->attach(twin).value(), 1u);
  step_all(*writer);
  CHECK(b->items() == (Items{{40, 1}, {50, 1}}));
  CHECK_EQ(writer->stats(1).value().applied, std::uint64_t{50});
}

TEST(lanes_detach_and_leave_no_trace) {
  const auto a = make(), b = make(), c = make();
  const auto writer = open({lane_to(a), lane_to(b)}, options(2, 0));
  CHECK(upsert(*writer, {1, 2}, 1, 2).ok());
  CHECK(writer->step(0, everything).ok());
  CHECK(!upsert(*writer, {3}, 1, 2, at_once()).ok()); // lane 1 is a ring behind
  CHECK(writer->detach(1).ok());
  CHECK(writer->detach(1).error().code == Code::not_found);
  CHECK(upsert(*writer, {3}, 1, 2, at_once()).ok()); // its array is ignored now
  // A new lane gets the place of the old one, and none of its vectors.
  LaneSpec third = lane_to(c);
  third.from_sequence = 2;
  CHECK_EQ(writer->attach(third).value(), 2u);
  step_all(*writer);
  CHECK(c->items().empty());
  CHECK_EQ(writer->failures(2).value().size(), std::size_t{2});
  CHECK(b->items().empty());
}

TEST(lanes_swap_between_two_writes) {
  const auto a = make(), b = make();
  const auto writer = open({lane_to(a)}, options(8, 0));
  CHECK(upsert(*writer, {1, 2, 3}, 1, 1).ok());
  CHECK_EQ(writer->step(0, 2).value(), std::size_t{2});
  CHECK_EQ(writer->swap(0, b, rules()).value(), std::uint64_t{2});
  step_all(*writer);
  CHECK(a->items() == (Items{{1, 1}, {2, 1}}));
  CHECK(b->items() == (Items{{3, 1}}));
  CHECK(writer->swap(0, a, rules(5)).error().code == Code::invalid_argument);
  CHECK(writer->swap(7, a, rules()).error().code == Code::not_found);
}

TEST(lanes_swap_takes_an_index_over_from_the_lane_that_fed_it) {
  const auto a = make(), b = make();
  const auto writer = open({lane_to(a)}, options(8, 0));
  LaneSpec twin = lane_to(b);
  twin.vectors_of = 0;
  CHECK_EQ(writer->attach(twin).value(), 1u);
  CHECK(upsert(*writer, {1, 2, 3}, 1, 1).ok());
  CHECK(upsert(*writer, {1}, 2, 1).ok());
  CHECK_EQ(writer->step(0, 1).value(), std::size_t{1});
  CHECK_EQ(writer->step(1, 3).value(), std::size_t{3});
  CHECK_EQ(writer->swap(0, b, rules()).value(), std::uint64_t{3}); // lane 0 was stepped to where lane 1 was
  CHECK(a->items() == (Items{{1, 1}, {2, 1}, {3, 1}}));
  step_all(*writer);
  CHECK(a->items() == b->items()); // the old one is still written, for a way back
  CHECK(b->log() == a->log());
}

TEST(lanes_with_a_source_are_parked_and_catch_up) {
  const auto a = make(), b = make();
  MapStore store;
  const auto writer = open({lane_to(a), lane_to(b, store.source())}, options(4, 0));
  Items oracle;
  std::uint64_t sequence = 0;
  const auto put = [&](std::int64_t id, float version) {
    store.put(++sequence, id, version);
    oracle[id] = version;
    CHECK_EQ(upsert(*writer, {id}, version, 2, at_once()).value(), sequence);
    CHECK(writer->step(0, everything).ok());
  };
  for (int i = 1; i <= 4; ++i) put(i, 1);
  CHECK(!writer->stats(1).value().parked);
  for (int i = 3; i <= 9; ++i) put(i, 2);
  CHECK(writer->stats(1).value().parked);
  store.put(++sequence, 1, std::nullopt);
  oracle.erase(1);
  CHECK(remove(*writer, {1}, at_once()).ok());
  store.broken = true;
  CHECK_EQ(writer->step(1, everything).value(), std::size_t{0});
  CHECK_EQ(writer->stats(1).value().source_error, std::string("the store is away"));
  CHECK(writer->wait(sequence, at_once()).error().code == Code::deadline_exceeded);
  store.broken = false;
  CHECK(writer->step(1, everything).ok());
  CHECK(writer->step(0, everything).ok());
  CHECK(!writer->stats(1).value().parked);
  CHECK_EQ(writer->stats(1).value().parkings, std::uint64_t{1});
  CHECK_EQ(writer->stats(1).value().caught_up, sequence);
  CHECK(writer->wait(sequence, at_once()).ok());
  CHECK(b->items() == oracle);
  put(50, 3); // and by the ring again
  CHECK_EQ(writer->step(1, everything).value(), std::size_t{1});
  CHECK(b->items() == oracle);
  CHECK_EQ(writer->stats(1).value().caught_up, sequence - 1);
}

TEST(lanes_that_catch_up_miss_no_late_write) {
  const auto a = make(), b = make();
  MapStore store;
  const auto writer = open({lane_to(a), lane_to(b, store.source())}, options(2, 0));
  const auto put = [&](std::int64_t id, std::uint64_t sequence) {
    store.put(sequence, id, static_cast<float>(sequence));
    CHECK(upsert(*writer, {id}, static_cast<float>(sequence), 2, at_once(), {sequence}).ok());
    CHECK(writer->step(0, everything).ok());
  };
  for (std::uint64_t s = 100; s < 105; ++s) put(static_cast<std::int64_t>(s), s);
  CHECK_EQ(writer->step(1, 3).value(), std::size_t{3});
  put(1, 7); // late: below what the lane has already caught up to
  put(100, 8);
  CHECK(writer->step(1, everything).ok());
  CHECK(!writer->stats(1).value().parked);
  CHECK(b->items() == a->items());
  CHECK_EQ(b->items().at(1), 7.0f);
  CHECK_EQ(b->items().at(100), 100.0f);
}

TEST(lanes_begin_from_their_source_where_the_ring_no_longer_has_it) {
  const auto a = make(), b = make();
  MapStore store;
  const auto writer = open({lane_to(a)}, options(2, 0));
  for (int i = 1; i <= 9; ++i) {
    store.put(static_cast<std::uint64_t>(i), i, 1.0f);
    CHECK(upsert(*writer, {i}, 1, 1).ok());
    CHECK(writer->step(0, everything).ok());
  }
  LaneSpec spec = lane_to(b, store.source());
  spec.from_sequence = 3;
  CHECK_EQ(writer->attach(spec).value(), 1u);
  CHECK(writer->stats(1).value().parked);
  CHECK(writer->step(1, everything).ok());
  CHECK(!writer->stats(1).value().parked);
  CHECK_EQ(b->items().size(), std::size_t{7});
  CHECK(writer->wait(9, at_once()).ok());
}

TEST(lanes_that_catch_up_miss_no_write_that_their_source_showed_out_of_order) {
  const auto a = make(), b = make();
  MapStore store;
  const auto writer = open({lane_to(a), lane_to(b, store.source())}, options(2, 0));
  const auto write = [&](std::uint64_t sequence) {
    const auto id = static_cast<std::int64_t>(sequence);
    CHECK(upsert(*writer, {id}, static_cast<float>(sequence), 2, at_once(), {sequence}).ok());
    CHECK(writer->step(0, everything).ok());
  };
  for (std::uint64_t s = 1; s <= 5; ++s) {
    store.put(s, static_cast<std::int64_t>(s), static_cast<float>(s));
    write(s);
  }
  store.put(8, 8, 8.0f); // its producer has not come to write it yet, nor has that of 7 to store it
  CHECK_EQ(writer->step(1, 3).value(), std::size_t{3});
  CHECK_EQ(writer->step(1, 3).value(), std::size_t{3}); // 4, 5, 8
  CHECK_EQ(writer->stats(1).value().applied, std::uint64_t{5});
  store.put(7, 7, 7.0f);
  write(7);
  write(8);
  CHECK(writer->wait(7, at_once()).error().code == Code::deadline_exceeded);
  CHECK(writer->step(1, everything).ok());
  CHECK(!writer->stats(1).value().parked);
  CHECK(writer->wait(8, at_once()).ok());
  CHECK(b->items() == a->items());
  CHECK_EQ(b->items().size(), std::size_t{7});
}
