// The id table under all interleavings of small cases, moves to another table and reuse of slots included.
#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "check.h"
#include "hnsw/id_table.h"
#include "support/explored.h"
#include "support/stress.h"

using namespace embedcore::hnsw;
using namespace embedcore::test;

namespace {

// Ids of slots are a plain array: who may read them when is what the protocol has to see to.
struct Host {
  std::int64_t* ids;
  std::vector<std::function<void()>>* retired;

  [[nodiscard]] std::int64_t id_of(Slot slot) const { return ids[slot]; }
  template <class Reclaim>
  void retire(Reclaim reclaim) const {
    retired->push_back(reclaim);
  }
  template <class Reclaim, class Then>
  void retire(Reclaim reclaim, Then then) const {
    retired->push_back([waiting = retired, reclaim, then] {
      reclaim();
      waiting->push_back(then);
    });
  }
};

// Schedules: all of the smallest cases; of the others as many as a second or so allows, more in `make
// torture`.
std::size_t some() { return 10'000 * static_cast<std::size_t>(from_environment("EMBEDCORE_STRESS", 1)); }

constexpr std::size_t cells = 8; // of the smallest table, five of which are claimed at most
using Table = BasicIdTable<Explored, Host, 2>;

struct World {
  ~World() {
    for (const auto& callback : retired) callback();
  }
  Slot put(std::int64_t id, Slot slot) {
    ids[slot] = id;
    return table.put(slot);
  }
  // Every id is in one place: where find says, if anywhere.
  void check() {
    std::vector<std::int64_t> mapped;
    for (const Slot slot : table.slots()) {
      mapped.push_back(ids[slot]);
      CHECK_EQ(table.find(ids[slot]), slot);
    }
    std::sort(mapped.begin(), mapped.end());
    CHECK(std::adjacent_find(mapped.begin(), mapped.end()) == mapped.end());
  }

  // Guards and their grace: a guard is an odd number of its thread.
  void pin(std::size_t thread) { guards[thread].fetch_add(1); }
  void unpin(std::size_t thread) { guards[thread].fetch_add(1); }
  // Waits for the guards held now, then runs what was retired before.
  void reclaim() {
    const auto waiting = std::exchange(retired, {});
    for (auto& guard : guards) {
      const int before = guard.load();
      while (before % 2 == 1 && guard.load() == before) Explored::yield();
    }
    for (const auto& callback : waiting) callback();
  }

  std::array<std::int64_t, 16> ids{};
  std::vector<std::function<void()>> retired;
  Table table{Host{ids.data(), &retired}, 0, cells};
  std::array<Explored::Atomic<int>, 3> guards;
};

// Other ids, until one more makes the table move. Removed: they leave cells without use.
std::shared_ptr<World> nearly_full(int claimed, bool removed) {
  auto world = std::make_shared<World>();
  for (int i = 0; i < claimed; ++i) {
    world->put(100 + i, static_cast<Slot>(8 + i));
    if (removed) world->table.erase(100 + i);
  }
  return world;
}

} // namespace

TEST(explored_an_id_added_by_two_threads_is_mapped_once) {
  if (!can_explore) return;
  for (const int claimed : {0, 4, 5}) { // at 5 the first one moves the table
    const auto result = explore(
        [claimed](Program& program) {
          auto world = nearly_full(claimed, true);
          auto replaced = std::make_shared<std::array<Slot, 2>>();
          for (Slot slot = 0; slot < 2; ++slot) {
            program.thread([=] { (*replaced)[slot] = world->put(7, slot); });
          }
          program.finally([=] {
            world->check();
            // One came first, and the other one replaced it.
            const bool first = (*replaced)[0] == no_slot;
            CHECK_EQ((*replaced)[first ? 1 : 0], Slot{first ? 0u : 1u});
            CHECK_EQ(world->table.find(7), Slot{first ? 1u : 0u});
          });
        },
        claimed == 0 ? 2'000'000 : some());
    CHECK(result.complete || claimed != 0);
    CHECK_EQ(result.deadlocks, std::size_t{0});
    CHECK(result.schedules > 1);
  }
}

TEST(explored_of_a_removal_and_an_update_both_know_what_they_did) {
  if (!can_explore) return;
  for (const int claimed : {0, 5}) {
    const auto result = explore(
        [claimed](Program& program) {
          auto world = nearly_full(claimed - (claimed != 0 ? 1 : 0), true);
          world->put(7, 0);
          auto removed = std::make_shared<Slot>();
          auto replaced = std::make_shared<Slot>();
          program.thread([=] { *removed = world->table.erase(7); });
          program.thread([=] { *replaced = world->put(7, 1); });
          program.thread([=] {
            if (claimed != 0) world->put(50, 2); // makes the table move
          });
          program.finally([=] {
            world->check();
            if (*replaced == 0) { // then removed
              CHECK_EQ(*removed, 1u);
              CHECK_EQ(world->table.find(7), no_slot);
            } else { // removed, then added anew
              CHECK_EQ(*removed, 0u);
              CHECK_EQ(*replaced, no_slot);
              CHECK_EQ(world->table.find(7), 1u);
            }
          });
        },
        some());
    CHECK_EQ(result.deadlocks, std::size_t{0});
    CHECK(result.schedules > 1);
  }
}

TEST(explored_a_reader_never_misses_an_id_while_the_table_moves) {
  if (!can_explore) return;
  const auto result = explore(
      [](Program& program) {
        auto world = nearly_full(4, true);
        world->put(7, 0);
        auto seen = std::make_shared<std::array<Slot, 2>>();
        program.thread([=] { world->put(50, 2); }); // moves the table
        program.thread([=] { world->put(7, 1); });
        program.thread([=] {
          for (Slot& slot : *seen) slot = world->table.find(7);
        });
        program.finally([=] {
          world->check();
          CHECK((*seen)[0] == 0 || (*seen)[0] == 1);
          CHECK((*seen)[1] == 1 || (*seen)[0] == 0); // never back
          CHECK((*seen)[1] == 0 || (*seen)[1] == 1);
        });
      },
      some());
  CHECK_EQ(result.deadlocks, std::size_t{0});
  CHECK(result.schedules > 1);
}

TEST(explored_a_slot_that_is_reused_is_never_taken_for_the_item_it_held) {
  if (!can_explore) return;
  for (const bool reader : {false, true}) {
    const auto result = explore(
        [reader](Program& program) {
          auto world = nearly_full(4, true);
          world->put(7, 0);
          program.thread([=] { // removes an item and reuses its slot for another
            World& w = *world;
            CHECK_EQ(w.table.erase(7), 0u);
            bool free = false;
            w.table.give_up({0}, [&free] { free = true; });
            while (!free) w.reclaim();
            w.put(9, 0);
          });
          program.thread([=] { // moves the table
            world->pin(1);
            world->put(50, 2);
            world->unpin(1);
          });
          if (reader) {
            program.thread([=] {
              world->pin(2);
              const Slot slot = world->table.find(9);
              CHECK(slot == no_slot || slot == 0);
              world->unpin(2);
            });
          }
          program.finally([=] {
            world->check();
            CHECK_EQ(world->table.find(7), no_slot);
            CHECK_EQ(world->table.find(9), 0u);
            CHECK_EQ(world->table.find(50), 2u);
          });
        },
        reader ? some() : 2'000'000);
    CHECK(result.complete || reader);
    CHECK_EQ(result.deadlocks, std::size_t{0});
    CHECK(result.schedules > 1);
  }
}
