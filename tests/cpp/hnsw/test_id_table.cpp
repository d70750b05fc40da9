// The id table against std::map, alone and beside lock-free readers.
#include "hnsw/id_table.h"

#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "hnsw/impl.h"
#include "world.h"

using namespace embedcore;
using namespace embedcore::hnsw;

namespace {

struct World {
  World() {
    Config config;
    config.dim = 1;
    CHECK(storage.create(config).ok());
  }
  Slot slot_for(std::int64_t id) {
    const Slot slot = storage.allocate(0);
    storage.node(slot).id = id;
    return slot;
  }
  Storage storage;
  EpochDomain epochs;
  IdTable table{IdHost{&storage, &epochs}, 0};
};

} // namespace

TEST(the_id_table_agrees_with_a_map) {
  World w;
  std::map<std::int64_t, Slot> expected;
  std::mt19937_64 random(3);
  for (int step = 0; step < 20000; ++step) {
    // Neighbouring and huge ids, so that chains of the hash are long and wrap around.
    const std::int64_t id =
        static_cast<std::int64_t>(random() % 400) * (step % 2 == 0 ? 1 : 1'000'000'007'000);
    const auto known = expected.find(id);
    const Slot before = known == expected.end() ? no_slot : known->second;
    CHECK_EQ(w.table.find(id), before);
    if (random() % 3 == 0) {
      CHECK_EQ(w.table.erase(id), before);
      expected.erase(id);
    } else {
      const Slot slot = w.slot_for(id);
      CHECK_EQ(w.table.put(slot), before);
      expected[id] = slot;
    }
  }
  CHECK_EQ(w.table.slots().size(), expected.size());
  for (const auto& [id, slot] : expected) CHECK_EQ(w.table.find(id), slot);
}

TEST(many_removals_do_not_make_the_table_grow) {
  World w;
  for (std::int64_t id = 0; id < 20000; ++id) {
    w.table.put(w.slot_for(id));
    w.table.erase(id);
  }
  CHECK(w.table.bytes() <= 64 * 1024);
}

TEST(readers_never_lose_an_id_that_is_only_replaced) {
  World w;
  constexpr std::int64_t ids = 50;
  for (std::int64_t id = 0; id < ids; ++id) w.table.put(w.slot_for(id));
  std::atomic<bool> stop{false};
  std::atomic<int> lost{0};
  std::vector<std::thread> readers;
  for (int r = 0; r < 2; ++r) {
    readers.emplace_back([&] {
      while (!stop.load()) {
        for (std::int64_t id = 0; id < ids; ++id) {
          const auto guard = w.epochs.pin();
          const Slot slot = w.table.find(id);
          if (slot == no_slot || w.storage.node(slot).id != id) lost.fetch_add(1);
        }
      }
    });
  }
  // Replaced again and again, while other ids come and go and make the table grow and clean itself.
  for (std::int64_t step = 0; step < 20000; ++step) {
    w.table.put(w.slot_for(step % ids));
    w.table.put(w.slot_for(1000 + step));
    if (step >= 300) w.table.erase(1000 + step - 300);
    if (step % 64 == 0) w.epochs.try_reclaim();
  }
  stop.store(true);
  for (std::thread& reader : readers) reader.join();
  CHECK_EQ(lost.load(), 0);
}
