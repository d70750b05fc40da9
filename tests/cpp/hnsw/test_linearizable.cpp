// add, remove, get and contains are linearizable item by item, whatever upkeep does meanwhile; and the
// checker that says so fires on histories that are not.
#include <atomic>
#include <thread>

#include "support/linearizable.h"
#include "support/stress.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 4;

Event event(Call call, std::uint64_t began, std::uint64_t ended, std::int64_t value, bool present) {
  return {1, call, value, present, began, ended};
}

// Values are small whole numbers, so that get() returns them exactly.
struct Recorder {
  void run(unsigned seed, std::size_t calls, std::int64_t ids, std::vector<Event>& history) {
    std::mt19937 random(seed);
    for (std::size_t i = 0; i < calls; ++i) {
      Event e;
      e.id = static_cast<std::int64_t>(random() % static_cast<unsigned>(ids));
      const auto draw = random() % 8;
      e.call = draw < 3 ? Call::add : draw < 4 ? Call::remove : draw < 7 ? Call::get : Call::contains;
      e.value = static_cast<std::int64_t>(seed % 100 * calls + i);
      const std::vector<std::int64_t> id{e.id};
      Vector v(dim, static_cast<float>(e.value));
      e.began = clock.fetch_add(1);
      switch (e.call) {
        case Call::add:
          CHECK(index->add(id, v.data(), 1).ok());
          break;
        case Call::remove:
          e.present = index->remove(id) == 1;
          break;
        case Call::get:
          e.present = index->get(id, v.data()).ok();
          e.value = static_cast<std::int64_t>(v[0]);
          break;
        case Call::contains:
          e.present = index->contains(e.id);
          break;
      }
      e.ended = clock.fetch_add(1);
      history.push_back(e);
    }
  }

  std::shared_ptr<Index> index = make_index(dim, Metric::l2, 4);
  std::atomic<std::uint64_t> clock{0};
};

} // namespace

TEST(the_checker_accepts_what_can_be_ordered) {
  CHECK(linearizable_item({}));
  // A get beside an add may see it or not.
  for (const bool seen : {false, true}) {
    CHECK(linearizable_item({event(Call::add, 0, 9, 5, false), event(Call::get, 1, 2, 5, seen)}));
  }
  // Two adds at once, read in one order by both readers.
  CHECK(linearizable_item({event(Call::add, 0, 9, 5, false), event(Call::add, 1, 8, 6, false),
                           event(Call::get, 2, 3, 6, true), event(Call::get, 4, 5, 5, true),
                           event(Call::remove, 10, 11, 0, true), event(Call::contains, 12, 13, 0, false)}));
}

TEST(the_checker_fires_on_a_lost_write) {
  CHECK(!linearizable_item({event(Call::add, 0, 1, 5, false), event(Call::get, 2, 3, 0, false)}));
  CHECK(!linearizable_item(
      {event(Call::add, 0, 1, 5, false), event(Call::add, 2, 3, 6, false), event(Call::get, 4, 5, 5, true)}));
}

TEST(the_checker_fires_on_what_comes_back_and_on_time_running_backwards) {
  CHECK(!linearizable_item({event(Call::add, 0, 1, 5, false), event(Call::remove, 2, 3, 0, true),
                            event(Call::contains, 4, 5, 0, true)}));
  // Two readers, one after the other, while an add goes on: the new value, then the old one.
  CHECK(!linearizable_item({event(Call::add, 0, 1, 5, false), event(Call::add, 2, 9, 6, false),
                            event(Call::get, 3, 4, 6, true), event(Call::get, 5, 6, 5, true)}));
  // Two removals of one add.
  CHECK(!linearizable_item({event(Call::add, 0, 1, 5, false), event(Call::remove, 2, 6, 0, true),
                            event(Call::remove, 3, 5, 0, true)}));
}

TEST(calls_on_an_item_can_be_ordered_whatever_goes_on_at_once) {
  Recorder recorder;
  std::vector<std::vector<Event>> histories(4);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] { recorder.run(stress_seed(300 + t), 1500, 6, histories[t]); });
  std::thread upkeep([&] {
    for (int round = 0; !stop.load(); ++round) {
      recorder.index->compact(hnsw::Budget::seconds(round % 3 == 0 ? 0 : 0.001));
      recorder.index->relocate(hnsw::Budget::seconds(0));
    }
  });
  for (std::thread& thread : threads) thread.join();
  stop.store(true);
  upkeep.join();
  std::vector<Event> all;
  for (const auto& history : histories) all.insert(all.end(), history.begin(), history.end());
  CHECK_EQ(all.size(), std::size_t{6000});
  CHECK(not_linearizable(all).empty());
  // The same with one answer turned round.
  const auto wrong =
      std::find_if(all.begin(), all.end(), [](const Event& e) { return e.call == Call::get && e.present; });
  CHECK(wrong != all.end());
  wrong->value = -7;
  CHECK_EQ(not_linearizable(all).size(), std::size_t{1});
  CHECK(recorder.index->check().empty());
}
