// What an Index is made of. One struct, its verbs in one file each: search.cpp, insert.cpp, remove.cpp,
// upkeep.cpp, repair.cpp, compact.cpp, relocate.cpp, check.cpp, stats.cpp, snapshot_save.cpp,
// snapshot_load*.cpp.
//
// Locks, in the order in which they are taken
//   upkeep.turn  whose turn it is to do a step of upkeep (upkeep.h)
//   gate         add, remove and steps of upkeep share it; a few of those steps, check, the training of codes
//                and the moment of a save (snapshot_capture.h) hold it alone
// Readers take neither: they hold an epoch guard (Pin) and load atomics. Writers share the gate and otherwise
// take no lock, but where memory grows (storage.h) and where they hand on what was retired (epoch.h).
//
// Switches. To replace, remove or move an item takes more than one store, so a reader can see one without
// the other. Each such change, any number of them at once, adds one to begun before its first store and one
// to ended after its last; the exchange of the id's cell (id_table.h) is the moment at which it happens.
//   * A reader that finds begun at its end equal to ended at its start has seen no change half
//     done; otherwise it asks the id table about every candidate, which is the one truth, and drops repeated
//     ids.
//   * A tombstone notes begun + 1 as read, by read-modify-write, after that exchange; a search notes at
//     its start what seen_switches gives. Of a tombstone with a larger number it has to look for the item
//     elsewhere; of any other one it has, by the same order, seen the exchange before it began.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/cache_size.h"
#include "common/epoch.h"
#include "hnsw/glance.h"
#include "hnsw/id_table.h"
#include "hnsw/index.h"
#include "hnsw/kernels.h"
#include "hnsw/probe.h"
#include "hnsw/scratch.h"
#include "hnsw/slot_hold.h"
#include "hnsw/storage.h"
#include "hnsw/tree.h"
#include "hnsw/upkeep.h"
#include "hnsw/verification.h"
#include "hnsw/walk.h"
#include "hnsw/writer_gate.h"

namespace embedcore::hnsw {

// Where walks start: one word, so that level and slot are never seen apart.
struct Entry {
  Slot slot = no_slot;
  std::uint32_t level = 0;

  [[nodiscard]] bool empty() const { return slot == no_slot; }
  [[nodiscard]] std::uint64_t packed() const { return std::uint64_t{level} << 32 | slot; }
  static Entry of(std::uint64_t packed) {
    return {static_cast<Slot>(packed), static_cast<std::uint32_t>(packed >> 32)};
  }
};

// How the id table reads ids, and gives up tables.
struct IdHost {
  const Storage* storage;
  EpochDomain* epochs;

  [[nodiscard]] std::int64_t id_of(Slot slot) const { return storage->node(slot).id; }
  template <class... Callbacks>
  void retire(Callbacks... callbacks) const {
    epochs->retire(std::move(callbacks)...);
  }
};
using IdTable = BasicIdTable<ThreadAtomics, IdHost>;

struct Counters { // since the index was made or loaded
  std::atomic<std::uint64_t> added{0}, replaced{0}, removed{0}, reconnected{0}, freed{0}, moved{0};
};

struct Index::Impl {
  explicit Impl(const Config& configuration) : config(configuration) {}
  // Reserves memory and chooses kernels; to be called once, before anything else.
  Status open();
  ~Impl() {
    while (epochs.pending() != 0) epochs.synchronize(); // callbacks that still wait use members of this
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // A reader's hold on everything it can reach. Counts itself per thread, so that a verb which is called
  // from inside a search (by a filter) knows not to wait for that search.
  class Pin {
   public:
    explicit Pin(const Impl& impl) : guard_(impl.epochs.pin()) { ++depth; }
    ~Pin() { --depth; }
    Pin(const Pin&) = delete;
    Pin& operator=(const Pin&) = delete;
    static thread_local int depth;

   private:
    EpochDomain::Guard guard_;
  };

  // --- reading (search.cpp) ---
  std::size_t search(const float* query, std::size_t k, std::size_t ef, const IdFilter* filter,
                     std::int64_t* ids, float* distances, SearchStats* stats) const;
  void range_search(const float* query, float radius, std::size_t ef, const IdFilter* filter,
                    std::vector<std::int64_t>& ids, std::vector<float>& distances) const;
  void scores(const float* query, std::span<const std::int64_t> ids, float* distances) const;
  [[nodiscard]] std::size_t walks_in_turn() const;
  void search_many(const float* queries, std::size_t n, std::size_t k, std::size_t ef, const IdFilter* filter,
                   std::int64_t* ids, float* distances, SearchStats* stats) const;
  struct Search; // one query on its way
  void search_admitted(Search& search, std::size_t k, std::size_t ef, const IdFilter* filter) const;
  [[nodiscard]] std::size_t least_breadth(std::size_t k, const Codec* codec) const;
  // Nothing but what may be returned is reached by links.
  [[nodiscard]] bool all_live() const {
    return tombstones.load(std::memory_order_acquire) == 0 && moved.load(std::memory_order_acquire) == 0;
  }
  // So many tombstones that making the queue longer no longer pays.
  [[nodiscard]] bool mostly_dead() const {
    return tombstones.load(std::memory_order_acquire) > live.load(std::memory_order_acquire);
  }
  // Greedily from the entry down to where the walk of a level starts. Pre-condition: not empty.
  Candidate approach(const Probe& probe, Entry from, std::uint32_t level, Scratch& scratch) const;
  bool rerank(const Probe& walking, const Probe& exact, bool coded, std::uint64_t since, std::size_t k,
              Scratch& scratch) const;
  // scratch.found := up to limit visible items of the candidates, sorted, every id once.
  void resolve(const Probe& exact, std::uint64_t ended_at_start, std::size_t limit, const IdFilter* filter,
               std::span<const Candidate> candidates, Scratch& scratch) const;
  void score_list(const Probe& exact, std::span<const std::int64_t> listed, std::size_t limit,
                  Scratch& scratch) const;

  // --- writing (insert.cpp, remove.cpp) ---
  Status add(std::span<const std::int64_t> ids, const float* vectors, unsigned threads,
             const std::function<bool(std::size_t)>& keep_going);
  Status insert(std::int64_t id, const float* vector);
  void fill(Slot slot, const float* vector, Scratch& scratch);
  const float* kept_unit(Slot slot, std::vector<float>& buffer) const;
  void link(Slot slot, Slot replaced, Scratch& scratch);
  struct Span { // of levels
    std::uint32_t first, last;
  };
  void link_levels(Slot slot, Slot replaced, const Probe& probe, Entry from, Span levels, Scratch& scratch);
  void choose(Slot slot, Slot replaced, std::span<const Candidate> met, Scratch& scratch) const;
  void neighbourhood(const Probe& probe, std::uint32_t level, std::size_t breadth,
                     std::vector<Candidate>& nodes, Scratch& scratch) const;
  void measure_between(Slot slot, std::vector<Candidate>& candidates, Scratch& scratch) const;
  static void measure_all(const Probe& probe, std::vector<Candidate>& candidates, Scratch& scratch);
  void link_back(Slot from, Slot to, std::uint32_t level);
  void publish(Slot slot);
  void abandon(Slot slot);
  bool remove(std::int64_t id);
  [[nodiscard]] std::uint8_t level_of(std::int64_t id) const;
  // Of switches: before the first store, after the exchange of the cell, after the last store.
  void begin_switch() { begun.fetch_add(1, std::memory_order_acq_rel); }
  [[nodiscard]] std::uint64_t switch_number() { return begun.fetch_add(0, std::memory_order_acq_rel) + 1; }
  void end_switch() { ended.fetch_add(1, std::memory_order_acq_rel); }
  // The largest number that only changes which are over have noted: `over` is ended, loaded before. The
  // youngest tombstone notes begun + 1; where a change is under way, that may be its own.
  [[nodiscard]] std::uint64_t seen_switches(std::uint64_t over) const {
    const std::uint64_t last = begun.load(std::memory_order_acquire);
    return last == over ? last + 1 : last;
  }
  void bury(Slot slot);

  // --- codes (train.cpp) ---
  struct Batch {
    const float* rows;
    std::size_t count;
  };
  // Trains the codes, for the first time or anew, when what is in the index and the batch ask for it.
  void train_if_due(Batch batch);
  [[nodiscard]] bool training_due(std::size_t coming) const;
  // Replaces the codec and all codes. False when a search did not end in time, or while a snapshot is taken:
  // nothing changed then.
  bool install(CodecValues values);
  void encode_all(const Codec& with, std::vector<float>& buffer);
  // From now on walks read codes of this one. Pre-conditions: all codes are its; nobody holds another.
  void use(std::unique_ptr<const Codec> fresh);

  // Measures how distances grow with rank, for the early stop, when the index has grown enough
  // (calibrate.cpp).
  void calibrate_if_due();
  void calibrate();

  // --- upkeep (upkeep.cpp, repair.cpp, compact.cpp, relocate.cpp) ---
  Report repair(const Budget& budget);
  Report compact(const Budget& budget);
  Report relocate(const Budget& budget);
  Report run_upkeep(Verb verb, const Budget& budget);
  Report work(Verb verb, std::uint64_t until, const Budget& budget);
  bool begin_round(Verb verb, std::uint64_t until);
  void step(std::unique_lock<std::mutex>& turn, Report& report);
  // Every search that still runs began after the switches that have noted the returned number or one below.
  std::uint64_t horizon(const Budget& budget);
  std::size_t mark_leaving(Slot from, Slot to);
  Slot leave_entry();
  [[nodiscard]] Entry best_entry(Slot except) const;
  void sweep(Slot from, Slot to, bool moving, Report& report);
  bool reconnect(Slot slot, std::uint32_t level, Scratch& scratch);
  void redirect(Slot slot, std::uint32_t level);
  Slot contract_some(Slot from, Slot to);
  std::size_t retire_some(Slot from, Slot to, State state);
  // Frees what nobody can hold any more, without waiting; what only then can be retired as well.
  void reclaim() {
    while (epochs.try_reclaim() != 0) {
    }
  }
  [[nodiscard]] Slot last_kept() const;
  [[nodiscard]] bool movable() const;
  bool move_some(Report& report);
  void copy_node(Slot old, Slot copy);
  void switch_place(Slot old, Slot copy);
  std::size_t trim_tail();
  // Tombstones that no round has looked at.
  [[nodiscard]] std::size_t unrepaired() const {
    const std::size_t seen = detached.load(std::memory_order_acquire);
    const std::size_t all = tombstones.load(std::memory_order_acquire);
    return all > seen ? all - seen : 0; // they may change in between
  }
  static constexpr std::size_t most_workers = 256;

  // --- questions (check.cpp, stats.cpp) ---
  [[nodiscard]] bool attached(Slot slot) const { return is_attached(storage.state(slot)); }
  [[nodiscard]] std::vector<std::string> check() const;
  [[nodiscard]] Stats stats() const;
  [[nodiscard]] std::size_t memory_bytes() const;

  [[nodiscard]] Entry entry() const { return Entry::of(entry_word.load(std::memory_order_acquire)); }
  void note_level(Entry added);
  void set_entry(Entry e) { entry_word.store(e.packed(), std::memory_order_release); }

  const Config config;
  Storage storage;
  SlotHold hold{storage}; // through which slots are freed
  const Kernels* kernels = nullptr;
  Space space;
  std::unique_ptr<const Codec> coding;      // behind space.codec, also while that is null; under the gate
  std::atomic<bool> codec_held{false};      // by a search that began before the codec was taken away
  std::atomic<std::uint64_t> trained_on{0}; // items there were; 0: not yet
  std::atomic<std::uint64_t> added_at_training{0};
  std::atomic<std::uint64_t> cut{0}; // dimensions cut off by codes since they were trained
  mutable EpochDomain epochs;
  std::unique_ptr<IdTable> table;
  std::unique_ptr<Tree> tree;
  mutable ScratchPool scratches;
  mutable WriterGate gate;
  Upkeep upkeep;
  std::atomic<std::uint64_t> entry_word{Entry{}.packed()};
  std::atomic<std::uint64_t> highest_new{Entry{}.packed()}; // added since repair began to look for an entry
  std::atomic<std::uint64_t> begun{0};
  std::atomic<std::uint64_t> ended{0};
  std::atomic<std::uint64_t> settled{0}; // largest horizon known
  std::atomic<std::size_t> live{0};
  std::atomic<std::size_t> tombstones{0}; // tombstone, leaving or detached
  std::atomic<std::size_t> detached{0};   // leaving or detached; changed by upkeep only
  std::atomic<std::size_t> moved{0};      // slots whose node lives elsewhere now
  std::atomic<std::size_t> retired{0};
  std::atomic<unsigned> saving{0}; // snapshots being taken: no training, no relocation
  Counters counters;
  std::atomic<float> stop_exponent{0};          // of the early stop; 0: none
  std::atomic<float> stop_floor{0};             // below half of it distances say nothing of where to stop
  Glance glance;                                // of walks that read float originals
  std::atomic<std::size_t> calibrated_on{0};    // items there were
  std::size_t cache_bytes = last_level_cache(); // changed by tests only

  mutable std::mutex tag_mutex;
  Tag tag;
  std::unique_ptr<const Verification> verification; // of a mapped snapshot; else null
};

} // namespace embedcore::hnsw
