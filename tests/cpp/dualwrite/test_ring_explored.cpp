// The ring under all interleavings of small cases, with counters so small that they wrap.
#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "check.h"
#include "dualwrite/ring.h"
#include "support/explored.h"

using embedcore::dualwrite::Bell;
using embedcore::dualwrite::Ring;
using embedcore::dualwrite::Turn;
using namespace embedcore::test;

namespace {

// Two halves: a lane that reads an entry too early, or while it is overwritten, sees them differ.
struct Halves {
  Explored::Atomic<int> low{0}, high{0};
};
// 6 bits of position and 2 of version: positions wrap at 64, versions at 4.
using Tiny = Ring<Halves, Explored, std::uint8_t, 2>;

struct World {
  explicit World(std::size_t capacity, std::size_t lanes, std::uint8_t start = 0) : ring(capacity) {
    // Counters close to where they wrap: by writes that nobody reads, before the threads start.
    for (int i = 0; i < start; ++i) produce(0);
    for (std::size_t lane = 0; lane < lanes; ++lane) CHECK(ring.join(lane, ring.claimed(), false));
  }

  bool produce(int value) {
    const auto at = ring.try_claim(1);
    if (!at) return false;
    ring.entry(*at).low.store(value);
    ring.entry(*at).high.store(value);
    ring.publish(*at, 1);
    return true;
  }

  // One turn of a lane.
  Turn consume(std::size_t lane, std::size_t most = 4) {
    std::uint8_t first = 0;
    std::size_t count = 0;
    const Turn turn = ring.begin(lane, most, first, count);
    if (turn != Turn::ready) return turn;
    for (std::size_t i = 0; i < count; ++i) {
      Halves& entry = ring.entry(Tiny::after(first, i));
      const int low = entry.low.load();
      if (low != entry.high.load()) torn = true;
      seen[lane].push_back(low);
    }
    ring.end(lane, count);
    return turn;
  }

  void drain(std::size_t lane) {
    while (consume(lane) == Turn::ready) {
    }
  }

  Tiny ring;
  std::array<std::vector<int>, 4> seen;
  bool torn = false;
};

// Values say who wrote them: 10 x producer + number.
bool in_order_per_producer(const std::vector<int>& values) {
  std::array<int, 8> last{};
  for (const int value : values) {
    auto& before = last[static_cast<std::size_t>(value / 10)];
    if (value <= before) return false;
    before = value;
  }
  return true;
}

std::function<void(Program&)> two_producers(std::size_t lanes, std::uint8_t start, int turns) {
  return [=](Program& program) {
    auto world = std::make_shared<World>(2, lanes, start);
    auto written = std::make_shared<std::array<int, 2>>();
    for (int p = 0; p < 2; ++p) {
      program.thread([=] {
        for (int i = 1; i <= 2; ++i) {
          // Given up where the ring is full: how often depends on the schedule.
          if (world->produce(10 * (p + 1) + i)) ++(*written)[static_cast<std::size_t>(p)];
        }
      });
    }
    for (std::size_t lane = 0; lane < lanes; ++lane) {
      program.thread([=] {
        for (int i = 0; i < turns; ++i) world->consume(lane);
      });
    }
    program.finally([=] {
      for (std::size_t lane = 0; lane < lanes; ++lane) {
        world->drain(lane);
        CHECK_EQ(world->seen[lane].size(), static_cast<std::size_t>((*written)[0] + (*written)[1]));
        CHECK(in_order_per_producer(world->seen[lane]));
        CHECK(world->seen[lane] == world->seen[0]);
      }
      CHECK(!world->torn);
      CHECK_EQ(int{world->ring.claimed()}, int{world->ring.published()});
    });
  };
}

} // namespace

TEST(explored_two_producers_and_a_lane_lose_and_double_nothing) {
  if (!can_explore) return;
  const auto result = explore(two_producers(1, 0, 2));
  CHECK(result.complete);
  CHECK(result.schedules > 10'000);
  CHECK_EQ(result.deadlocks, std::size_t{0});
}

TEST(explored_positions_that_wrap) {
  if (!can_explore) return;
  const auto result = explore(two_producers(1, 62, 1)); // 63, 0, 1, 2
  CHECK(result.complete);
}

TEST(explored_two_lanes_read_the_same) {
  if (!can_explore) return;
  const auto result = explore([](Program& program) {
    auto world = std::make_shared<World>(1, 2, 63);
    auto written = std::make_shared<int>(0);
    program.thread([=] {
      for (int i = 1; i <= 2; ++i) *written += world->produce(i);
    });
    for (std::size_t lane = 0; lane < 2; ++lane) program.thread([=] { world->consume(lane); });
    program.finally([=] {
      for (std::size_t lane = 0; lane < 2; ++lane) {
        world->drain(lane);
        CHECK_EQ(world->seen[lane].size(), static_cast<std::size_t>(*written));
        CHECK(in_order_per_producer(world->seen[lane]));
      }
      CHECK(!world->torn);
    });
  });
  CHECK(result.complete);
}

TEST(explored_a_lane_that_joins_reads_everything_from_its_start) {
  if (!can_explore) return;
  std::array<int, 2> joined{};
  const auto result = explore([&](Program& program) {
    auto world = std::make_shared<World>(2, 0, 62);
    world->produce(1);
    auto written = std::make_shared<int>(1);
    program.thread([=] {
      for (int i = 2; i <= 4; ++i) {
        if (!world->produce(i)) break;
        *written = i;
      }
    });
    program.thread([=, &joined] {
      const auto from = Tiny::after(62, 0);
      const bool ok = world->ring.join(0, from, false); // before value 1
      ++joined[ok ? 1 : 0];
      if (ok)
        world->consume(0, 1);
      else
        CHECK(world->consume(0) == Turn::absent);
    });
    program.finally([=] {
      world->drain(0);
      CHECK(!world->torn);
      for (std::size_t i = 0; i < world->seen[0].size(); ++i) {
        CHECK_EQ(world->seen[0][i], static_cast<int>(i) + 1);
      }
      if (!world->seen[0].empty()) CHECK_EQ(world->seen[0].back(), *written);
    });
  });
  CHECK(result.complete);
  CHECK(joined[0] > 0); // too late, on some schedules
  CHECK(joined[1] > 0);
}

TEST(explored_a_parked_lane_stops_between_two_entries_and_joins_again) {
  if (!can_explore) return;
  std::size_t parked = 0;
  const auto result = explore([&](Program& program) {
    auto world = std::make_shared<World>(1, 0, 63);
    CHECK(world->ring.join(0, world->ring.claimed(), true));
    CHECK(world->ring.join(1, world->ring.claimed(), false)); // may not be parked
    program.thread([=] {
      int value = 1;
      for (int attempt = 0; attempt < 3 && value <= 2; ++attempt) {
        if (world->produce(value))
          ++value;
        else
          world->ring.park_blockers(1);
      }
    });
    program.thread([=] {
      for (int i = 0; i < 2; ++i) world->consume(0);
    });
    program.thread([=] { world->consume(1); });
    program.finally([=, &parked] {
      world->drain(0);
      world->drain(1);
      CHECK(!world->torn);
      CHECK(!world->ring.is_parked(1));
      const auto& all = world->seen[1];
      // A prefix of what the other lane read, and all of it if it never was parked.
      CHECK(world->seen[0].size() <= all.size());
      CHECK(std::equal(world->seen[0].begin(), world->seen[0].end(), all.begin()));
      if (!world->ring.is_parked(0)) {
        CHECK_EQ(world->seen[0].size(), all.size());
        return;
      }
      ++parked;
      CHECK(world->ring.join(0, world->ring.claimed(), true));
      CHECK(world->produce(7));
      world->drain(0);
      CHECK_EQ(world->seen[0].back(), 7);
    });
  });
  CHECK(result.complete);
  CHECK(parked > 0);
}

TEST(explored_waiting_for_room_and_for_work_never_hangs) {
  if (!can_explore) return;
  const auto result = explore([](Program& program) {
    struct Bells {
      Bell<Explored> room, work;
    };
    auto world = std::make_shared<World>(1, 1, 0);
    auto bells = std::make_shared<Bells>();
    program.thread([=] {
      for (int i = 1; i <= 2;) {
        const auto key = bells->room.key();
        if (world->produce(i)) {
          bells->work.ring();
          ++i;
        } else {
          bells->room.wait(key);
        }
      }
    });
    program.thread([=] {
      while (world->seen[0].size() < 2) {
        const auto key = bells->work.key();
        if (world->consume(0) == Turn::ready)
          bells->room.ring();
        else
          bells->work.wait(key);
      }
    });
    program.finally([=] {
      CHECK_EQ(world->seen[0].size(), std::size_t{2});
      CHECK(!world->torn);
    });
  });
  CHECK(result.complete);
  CHECK_EQ(result.deadlocks, std::size_t{0});
}

TEST(explored_a_closed_gate_lets_producers_go_on) {
  if (!can_explore) return;
  const auto result = explore([](Program& program) {
    auto world = std::make_shared<World>(1, 1, 63);
    CHECK(world->produce(1));
    program.thread([=] { world->consume(0); });
    program.thread([=] { world->ring.close(0); });
    program.finally([=] {
      CHECK(world->consume(0) == Turn::absent);
      CHECK(world->produce(2));
      CHECK(world->produce(3));
      CHECK(!world->torn);
    });
  });
  CHECK(result.complete);
}
