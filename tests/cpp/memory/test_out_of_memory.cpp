// Every call under every shortage: the first request for memory fails, or the second, or the third, and so
// on, until there are no more, once alone and once with all that follow. After each:
//   * the index is sound, no slot is lost, and every item is there at the version before the call or the one
//     after it
//   * the call made again succeeds
//   * a snapshot holds the same
#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "hnsw/snapshot_world.h"
#include "hnsw/upkeep_world.h"
#include "scarce.h"
#include "support/stress.h"

using namespace embedcore;
using namespace embedcore::test;

namespace {

constexpr std::uint32_t dim = 4;
constexpr std::size_t wide = 100000; // an ef beyond all slots: a walk sees every node it can reach

struct World : UpkeepWorld {
  explicit World(Kind kind = {}, std::size_t items = 40) : UpkeepWorld(::dim, 2, 71, Metric::l2, kind) {
    add(0, items);
  }
  [[nodiscard]] Index::Impl& inside() const { return hnsw::IndexTestPeer::impl(*index); }
  // Holds as many guards as there are places for, so that the next one asks for memory.
  [[nodiscard]] std::vector<EpochDomain::Guard> crowd() const {
    std::vector<EpochDomain::Guard> guards;
    guards.reserve(64);
    for (int i = 0; i < 64; ++i) guards.push_back(inside().epochs.pin());
    return guards;
  }
  hnsw::Slot pending = hnsw::no_slot;
};

struct Operation {
  std::function<std::unique_ptr<World>()> world;
  // Does it; false: it says that memory ran out.
  std::function<bool(World&)> run;
  // Does to the oracle what run does to the index.
  std::function<void(World&)> note = [](World&) {};
};

bool done(const Status& status) {
  if (!status.ok()) CHECK(status.error().code == Code::resource_exhausted);
  return status.ok();
}

// Whether the index holds every item of both, and of others none but those of one of them; and is sound.
void expect_between(const Index& index, const Oracle& before, const Oracle& after) {
  for (const std::string& problem : index.check()) fail(__FILE__, __LINE__, problem);
  const std::vector<std::int64_t> ids = index.ids();
  CHECK_EQ(index.size(), ids.size());
  const auto of = [](const Oracle& oracle, std::int64_t id) {
    const auto at = oracle.items.find(id);
    return at == oracle.items.end() ? Vector{} : at->second;
  };
  std::size_t kept = 0;
  std::size_t number = 0;
  for (const std::int64_t id : ids) {
    Vector vector(dim);
    CHECK(index.get({&id, 1}, vector.data()).ok());
    CHECK(vector == of(before, id) || vector == of(after, id));
    const bool touched = of(before, id) != of(after, id);
    if (touched || number++ % (ids.size() / 16 + 1) == 0) // check() has found that all can be reached
      CHECK(search(index, vector.data(), 1, wide).ids == std::vector<std::int64_t>{id});
    kept += before.items.contains(id) && after.items.contains(id) ? 1u : 0u;
  }
  const auto both = std::count_if(before.items.begin(), before.items.end(),
                                  [&](const auto& item) { return after.items.contains(item.first); });
  CHECK_EQ(kept, static_cast<std::size_t>(both));
}

// Every slot is something.
void expect_no_slot_lost(World& world, bool settled) {
  const hnsw::Stats stats = world.index->stats();
  CHECK_EQ(stats.live + stats.tombstones + stats.free + stats.retired + world.inside().moved.load(),
           stats.slots);
  if (!settled) return;
  CHECK_EQ(stats.tombstones + stats.retired + world.inside().moved.load(), std::size_t{0});
}

void expect_saved(const Folder& folder, const World& world) {
  CHECK(world.index->save(folder.file("after")).ok());
  const auto loaded = Index::load(folder.file("after"));
  CHECK(loaded.ok());
  if (loaded.ok()) world.oracle.expect_equal(*loaded.value());
}

// All that follow fail as well for every third request only, but in `make torture`.
std::size_t starve(const Operation& operation) {
  const long rest = from_environment("EMBEDCORE_STRESS", 1) > 1 ? 1 : 3;
  const Folder folder;
  std::size_t failed = 0;
  for (const auto kind : {Scarcity::Kind::once, Scarcity::Kind::from_then_on}) {
    const long every = kind == Scarcity::Kind::once ? 1 : rest;
    for (long n = 1;; n += every) {
      const int failures_before = failures();
      const auto world = operation.world();
      const Oracle before = world->oracle;
      bool finished = false;
      const bool struck = Scarcity::during(n, kind, [&] {
        try {
          finished = operation.run(*world);
        } catch (const std::bad_alloc&) {
        }
      });
      operation.note(*world);
      expect_between(*world->index, finished ? world->oracle : before, world->oracle);
      expect_no_slot_lost(*world, false);
      // On a thread of its own again, which is likely to take the same scratch from the pool.
      if (!finished) std::thread([&] { CHECK(operation.run(*world)); }).join();
      world->oracle.expect_equal(*world->index);
      expect_saved(folder, *world);
      world->index->compact();
      world->index->compact(); // frees what the first has retired
      expect_no_slot_lost(*world, true);
      world->oracle.expect_equal(*world->index);
      failed += finished ? 0u : 1u;
      if (failures() != failures_before) {
        std::fprintf(stderr, "  when request %ld for memory fails%s\n", n,
                     kind == Scarcity::Kind::once ? "" : ", and all after it");
        return failed;
      }
      if (!struck) break;
    }
  }
  return failed;
}

// Adds these, with vectors of their own.
Operation adding(std::vector<std::int64_t> ids, std::function<std::unique_ptr<World>()> world,
                 unsigned threads = 1) {
  std::mt19937 random(72);
  const auto rows = random_rows(random, ids.size(), dim);
  return {std::move(world),
          [ids, rows, threads](World& w) { return done(w.index->add(ids, rows.data(), threads)); },
          [ids, rows](World& w) {
            for (std::size_t i = 0; i < ids.size(); ++i)
              w.oracle.items[ids[i]] = kept(w.index->config(), &rows[i * dim]);
          }};
}

const Kind plain{};
const Kind coded{hnsw::Dtype::float32, hnsw::Codes::int8};
const Kind packed{hnsw::Dtype::float16, hnsw::Codes::int4};

auto world_of(Kind kind, std::size_t items) {
  return [kind, items] { return std::make_unique<World>(kind, items); };
}

// With tombstones: the first items, so that relocation has holes below.
auto churned_world(Kind kind, std::size_t items) {
  return [kind, items] {
    auto world = std::make_unique<World>(kind, items);
    const auto gone = numbered(0, items / 3);
    CHECK_EQ(world->index->remove(gone), gone.size());
    for (const std::int64_t id : gone) world->oracle.items.erase(id);
    return world;
  };
}

} // namespace

TEST(memory_runs_out_while_the_first_item_is_added) { CHECK(starve(adding({5}, world_of(plain, 0))) > 3); }

SLOW_TEST(memory_runs_out_while_an_item_is_added) {
  CHECK(starve(adding({1000}, world_of(plain, 40))) > 10);
  CHECK(starve(adding({1000}, world_of(coded, 260))) > 10);
  CHECK(starve(adding({1000}, world_of(packed, 260))) > 10);
}

SLOW_TEST(memory_runs_out_while_an_item_is_replaced) {
  CHECK(starve(adding({7}, world_of(plain, 40))) > 10);
  CHECK(starve(adding({200}, churned_world(coded, 390))) > 10);
}

TEST(memory_runs_out_while_threads_add_items) {
  std::vector<std::int64_t> ids = numbered(20, 60); // some are there
  CHECK(starve(adding(ids, world_of(plain, 40), 3)) > 10);
}

// The id table has 640 cells for use and keeps 64 of them back.
SLOW_TEST(memory_runs_out_while_the_id_table_grows) {
  CHECK(starve(adding(numbered(2000, 70), world_of(plain, 572))) > 10);
}

// So many adds at once that what the table keeps back does not suffice: put itself asks for memory.
SLOW_TEST(memory_runs_out_while_an_item_is_published) {
  const std::int64_t id = 1000;
  std::mt19937 random(74);
  const Vector vector = random_vector(random, dim);
  const auto world = [&] {
    auto made = std::make_unique<World>();
    Index::Impl& x = made->inside();
    {
      const auto pin = x.epochs.pin();
      const hnsw::ScratchPool::Lease lease(x.scratches);
      made->pending = x.storage.allocate(x.level_of(id));
      x.storage.node(made->pending).id = id;
      x.fill(made->pending, vector.data(), *lease);
      x.link(made->pending, hnsw::no_slot, *lease);
      std::vector<hnsw::Slot> slots;
      for (std::int64_t other = 5000; other < 5600; ++other) { // each takes a cell, though it goes again
        slots.push_back(x.storage.allocate(0));
        x.storage.node(slots.back()).id = other;
        x.table->put(slots.back());
        x.table->erase(other);
      }
      x.table->give_up(slots, [&x, slots] { x.storage.free(slots); });
    }
    x.reclaim();
    return made;
  };
  const auto run = [&](World& w) {
    Index::Impl& x = w.inside();
    if (x.storage.state(w.pending) != hnsw::State::pending)
      return done(w.index->add({&id, 1}, vector.data(), 1));
    const auto pin = x.epochs.pin();
    x.publish(w.pending);
    return true;
  };
  CHECK(starve({world, run, [&](World& w) { w.oracle.items[id] = vector; }}) > 0);
}

SLOW_TEST(memory_runs_out_for_the_guards_of_epochs) {
  const Operation add = adding({1000}, world_of(plain, 40));
  CHECK(starve({add.world,
                [&add](World& w) {
                  const auto guards = w.crowd();
                  return add.run(w);
                },
                add.note}) > 10);
  CHECK(starve({[] {
                  auto world = churned_world(plain, 60)();
                  world->index->compact();
                  return world;
                },
                [](World& w) {
                  {
                    const auto guards = w.crowd();
                    w.index->relocate();
                  }
                  w.index->relocate();
                  w.index->relocate();
                  return w.index->stats().slots == w.index->size();
                }}) > 10);
}

SLOW_TEST(memory_runs_out_while_codes_are_trained) {
  CHECK(starve(adding(numbered(2000, 10), world_of(coded, 250))) > 10);
  // Anew: what is there is taken away first.
  CHECK(starve({[] {
                  auto world = std::make_unique<World>(coded, 260);
                  CHECK_EQ(world->index->stats().codes_trained_on, std::uint64_t{260});
                  return world;
                },
                [](World& w) {
                  Index::Impl& x = w.inside();
                  const std::unique_lock alone(x.gate);
                  CHECK(x.space.codec.load() == x.coding.get());
                  CHECK(!x.codec_held.load()); // as it was before, if this is the second time
                  return x.install(x.coding->values());
                }}) > 3);
}

SLOW_TEST(memory_runs_out_while_items_are_removed) {
  const auto ids = numbered(3, 20);
  starve({world_of(plain, 40),
          [ids](World& w) {
            w.index->remove(ids);
            return w.index->size() == 20;
          },
          [ids](World& w) {
            for (const std::int64_t id : ids) w.oracle.items.erase(id);
          }});
}

SLOW_TEST(memory_runs_out_while_an_index_is_compacted) {
  for (const Kind kind : {plain, coded}) {
    CHECK(starve({churned_world(kind, kind.codes == coded.codes ? 270 : 60), [](World& w) {
                    w.index->compact();
                    return w.index->compact().done && w.index->tombstones() == 0;
                  }}) > 10);
  }
}

SLOW_TEST(memory_runs_out_while_nodes_are_moved) {
  for (const Kind kind : {plain, coded}) {
    CHECK(starve({[kind] {
                    auto world = churned_world(kind, kind.codes == coded.codes ? 270 : 60)();
                    world->index->compact();
                    return world;
                  },
                  [](World& w) {
                    w.index->relocate();
                    w.index->relocate();
                    return w.index->stats().slots == w.index->size();
                  }}) > 10);
  }
}

// Slots that come free meanwhile are kept back.
SLOW_TEST(memory_runs_out_while_an_index_is_compacted_and_saved) {
  CHECK(starve({churned_world(plain, 60), [](World& w) {
                  {
                    const hnsw::SlotHold::Guard hold(w.inside().hold);
                    w.index->compact();
                    w.index->compact();
                  }
                  return w.index->tombstones() == 0;
                }}) > 10);
}

SLOW_TEST(memory_runs_out_while_an_index_is_saved) {
  const Folder folder;
  for (const Kind kind : {plain, packed}) {
    CHECK(starve({churned_world(kind, kind.codes == packed.codes ? 270 : 60), [&folder](World& w) {
                    const bool saved = done(w.index->save(folder.file("target")));
                    CHECK(saved);
                    return saved;
                  }}) > 10);
    CHECK_EQ(folder.files(), std::size_t{1}); // nothing half written is left
  }
}

SLOW_TEST(memory_runs_out_while_an_index_is_loaded) {
  const Folder folder;
  for (const bool mapped : {false, true}) {
    for (const Kind kind : {plain, packed}) {
      const auto saved = churned_world(kind, kind.codes == packed.codes ? 270 : 60)();
      CHECK(saved->index->save(folder.file("source")).ok());
      CHECK(starve({[&saved] { return std::make_unique<World>(plain, 3); },
                    [&](World&) {
                      const auto loaded = Index::load(folder.file("source"), mapped);
                      if (!loaded.ok()) return done(loaded.error());
                      CHECK(loaded.value()->wait_verified().ok());
                      saved->oracle.expect_equal(*loaded.value());
                      return true;
                    }}) > 10);
    }
  }
}

SLOW_TEST(memory_runs_out_while_an_index_is_searched) {
  struct Even : hnsw::IdFilter {
    [[nodiscard]] bool allows(std::int64_t id) const override { return id % 2 == 0; }
  };
  for (const Kind kind : {plain, coded}) {
    std::mt19937 random(73);
    const auto queries = random_rows(random, 6, dim);
    CHECK(starve({churned_world(kind, kind.codes == coded.codes ? 270 : 60), [&queries](World& w) {
                    std::vector<std::int64_t> ids(6 * 5);
                    std::vector<float> distances(6 * 5);
                    w.index->search_many(queries.data(), 6, 5, 40, nullptr, ids.data(), distances.data());
                    const Even even;
                    for (int q = 0; q < 6; ++q) {
                      const float* query = &queries[static_cast<std::size_t>(q) * dim];
                      const auto truth = w.oracle.nearest(query, 5);
                      CHECK(search(*w.index, query, 5, wide).ids == truth);
                      CHECK(search(*w.index, query, 5, wide, &even).ids.size() == 5);
                      w.index->range_search(query, 1.0f, 10, nullptr, ids, distances);
                    }
                    return true;
                  }}) > 10);
  }
}
