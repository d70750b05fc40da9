// Where nodes live: a slot number leads to its vector, its links on every level and what is known of it.
// Callers of the index never see slot numbers, so slots may be reused and nodes moved.
//
// Five arenas, none of which ever moves:
//   blocks_     one block per slot, 64-byte aligned: 2m level-0 links (u32), empty ones up to a multiple of
//               16, then what walks read: the code, or the original where there are no codes
//   originals_  one original per slot, where there are codes beside it
//   nodes_      one 32-byte Node per slot
//   upper_      links of the levels above 0, m per level, in runs of as many levels as the node has
//   free_bits_  one bit per slot, set while it is free
//
// Who may write what
//   a block and Node  the thread that allocated the slot, before the first link to it is stored (release);
//                     from then on only links, state, died and parent change, all of them atomic
//   links             any writer, each word by compare-and-swap (link_list.h)
//   readers           load links with acquire and take no lock; whatever they reach was complete before
// A slot is handed out again only after an epoch in which no reader can still hold it.
//
// Progress: reading is wait-free. allocate and free are lock-free (free_slots.h, extent.h, run_stack.h),
// except where the arenas grow: a system call per thirty-second of what there is, under a mutex, for which
// those wait who need what it brings. trim gives memory back under the same mutex, in short pieces. Memory is
// bounded while no reader is stopped in the middle of a search: one that is keeps back what was retired
// since.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "common/status.h"
#include "hnsw/arena.h"
#include "hnsw/codec.h"
#include "hnsw/extent.h"
#include "hnsw/free_slots.h"
#include "hnsw/index.h"
#include "hnsw/link_list.h"
#include "hnsw/originals.h"
#include "hnsw/run_stack.h"
#include "hnsw/writer_gate.h"

namespace embedcore::hnsw {

constexpr std::uint8_t max_level = 15;

// free -> pending (being linked, not yet visible) -> live -> tombstone (never returned, still walked
// through) -> leaving (repair is taking it out: links to it go, none is made any more) -> detached (no node
// of the graph links to it) -> retired (waiting for its epoch) -> free. live or tombstone -> moved (its node
// lives on in another slot, named by Node::parent; links to it go, none is made any more) -> retired -> free.
enum class State : std::uint8_t { free = 0, pending, live, tombstone, detached, retired, leaving, moved };

// Part of the graph, and fit for new links.
constexpr bool is_attached(State state) {
  return state == State::live || state == State::tombstone || state == State::pending;
}
constexpr bool is_leaving(State state) { return state == State::leaving; }
// A node of the tree; all that links of the graph lead to, moved ones excepted.
constexpr bool in_graph(State state) { return is_attached(state) || is_leaving(state); }

struct Node {
  std::int64_t id;
  std::uint64_t died;  // number of the switch that made it a tombstone (see Switches)
  std::uint32_t upper; // its first run of links in upper_; undefined at level 0
  Slot parent;         // whose protected link leads here (see tree.h); no_slot for the root; of a moved node
                       // the slot that it lives in now
  float inverse_norm;  // 1 / |original|
  State state;
  std::uint8_t level;
};
static_assert(sizeof(Node) == 32, "two nodes a cache line");
static_assert(std::atomic_ref<Slot>::is_always_lock_free && std::atomic_ref<State>::is_always_lock_free);

// The links of one node on one level, a List of link_list.h; empty places may be anywhere.
struct Links {
  Word* at;
  std::uint32_t count;

  // Where the link leads; no_slot: nowhere.
  [[nodiscard]] Slot load(std::size_t i) const {
    return target_of(std::atomic_ref<Word>(at[i]).load(std::memory_order_acquire));
  }
  [[nodiscard]] Word word(std::size_t i) const {
    return std::atomic_ref<Word>(at[i]).load(std::memory_order_seq_cst);
  }
  bool swap(std::size_t i, Word expected, Word desired) const {
    return std::atomic_ref<Word>(at[i]).compare_exchange_strong(expected, desired, std::memory_order_seq_cst);
  }
  // Pre-condition: no other thread writes this list.
  void store(std::size_t i, Word word) const {
    std::atomic_ref<Word>(at[i]).store(word, std::memory_order_release);
  }
  // Position of slot (or of an empty place for no_slot), or count.
  [[nodiscard]] std::size_t find(Slot slot) const {
    std::size_t i = 0;
    while (i < count && load(i) != slot) ++i;
    return i;
  }
};

class Storage {
 public:
  Status create(const Config& config);
  // Bytes of a block and of what is in it, and of an original.
  struct Shape {
    std::size_t row_offset, row_bytes, block_bytes, original_bytes;
  };
  [[nodiscard]] static Shape shape(const Config& config);

  [[nodiscard]] Node& node(Slot slot) const { return node_base_[slot]; }
  // What walks read. Pre-condition of code: the index has codes.
  [[nodiscard]] std::byte* row(Slot slot) const { return block_base_ + slot * block_bytes_ + row_offset_; }
  [[nodiscard]] std::byte* code(Slot slot) const { return row(slot); }
  [[nodiscard]] std::byte* original(Slot slot) const { return original_base_ + slot * original_stride_; }
  // Rows as kernels take them: that of slot s at base + s * stride.
  struct Rows {
    const std::byte* base;
    std::size_t stride;
    std::size_t bytes;
  };
  [[nodiscard]] Rows rows() const { return {block_base_ + row_offset_, block_bytes_, row_bytes_}; }
  [[nodiscard]] Rows originals() const { return {original_base_, original_stride_, original_bytes_}; }
  [[nodiscard]] const std::byte* blocks() const { return block_base_; }
  [[nodiscard]] std::byte* block(Slot slot) const { return block_base_ + slot * block_bytes_; }
  // The level-0 links and the first line of the row, from memory.
  void ask_for_block(Slot slot) const {
    const std::byte* block = block_base_ + slot * block_bytes_;
    for (std::size_t at = 0; at <= row_offset_; at += 64) __builtin_prefetch(block + at, 0, 3);
  }
  // Returns 1 / |what was kept|, which is the caller's to note in the node.
  float store_original(Slot slot, const float* vector) const { return kept_->store(vector, original(slot)); }
  void load_original(Slot slot, float* vector) const { kept_->load(original(slot), vector); }
  // Level-0 link places of a block, with the empty ones that fill its last cache line.
  [[nodiscard]] std::size_t link_places() const { return row_offset_ / sizeof(Slot); }
  [[nodiscard]] Links links(Slot slot, std::uint32_t level) const {
    if (level == 0) return {reinterpret_cast<Slot*>(block_base_ + slot * block_bytes_), base_links_};
    const std::size_t run = std::size_t{node(slot).upper} + (level - 1);
    return {upper_base_ + run * upper_links_, upper_links_};
  }
  [[nodiscard]] State state(Slot slot) const {
    return std::atomic_ref<State>(node(slot).state).load(std::memory_order_acquire);
  }
  void set_state(Slot slot, State state) {
    std::atomic_ref<State>(node(slot).state).store(state, std::memory_order_release);
  }
  // False when the state is not `from`.
  bool change_state(Slot slot, State from, State to) {
    return std::atomic_ref<State>(node(slot).state)
        .compare_exchange_strong(from, to, std::memory_order_acq_rel);
  }
  [[nodiscard]] Slot parent(Slot slot) const {
    return std::atomic_ref<Slot>(node(slot).parent).load(std::memory_order_acquire);
  }
  void set_parent(Slot slot, Slot parent) {
    std::atomic_ref<Slot>(node(slot).parent).store(parent, std::memory_order_release);
  }
  [[nodiscard]] std::uint64_t died(Slot slot) const {
    return std::atomic_ref<std::uint64_t>(node(slot).died).load(std::memory_order_acquire);
  }
  void set_died(Slot slot, std::uint64_t number) {
    std::atomic_ref<std::uint64_t>(node(slot).died).store(number, std::memory_order_release);
  }

  // Those of the first run; all others follow.
  [[nodiscard]] Links first_upper_links() const { return {upper_base_, upper_links_}; }

  // All slots ever handed out and not returned at the tail lie below end().
  [[nodiscard]] Slot end() const { return slots_.end(); }

  // Makes sure that n more nodes fit, without using memory yet.
  Status prepare(std::size_t n);
  // A pending node with empty links, or no_slot when the range is exhausted. The caller fills id,
  // inverse_norm and the vector. Thread-safe; a freed slot is taken before a new one, lowest first.
  [[nodiscard]] Slot allocate(std::uint8_t level);
  // All places on all levels, and what fills the last line of level 0.
  void clear_links(Slot slot);
  // Slots, and their upper links, for reuse. Pre-condition: no reader can reach them. Thread-safe.
  void free(std::span<const Slot> slots);
  // Lowers end() over free slots at the tail and gives the memory behind it back. Thread-safe.
  void trim();
  [[nodiscard]] std::size_t free_count() const { return free_.count(); }
  // The slot that allocate takes next; no_slot: a new one.
  [[nodiscard]] Slot lowest_free() const { return free_.lowest(); }
  // For load: slots [0, end) exist, in the states that the caller writes; upper runs [0, runs) are used.
  Status restore(Slot end, std::uint32_t runs);
  // The same with the contents of a file's sections, which written pages part from; the file never changes.
  struct Mapped {
    int file;
    struct Range {
      std::uint64_t at, bytes; // multiples of a page
    } nodes, upper, blocks, originals;
  };
  Status restore(Slot end, std::uint32_t runs, const Mapped& mapped);
  void restore_free(std::span<const Slot> slots);
  [[nodiscard]] std::uint32_t upper_end() const { return runs_.end(); }
  [[nodiscard]] Slot* upper_links() const { return upper_base_; } // all runs
  [[nodiscard]] Node* nodes() const { return node_base_; }

  struct Resident {
    std::size_t blocks, originals, nodes, upper, lists; // bytes
  };
  [[nodiscard]] Resident resident() const;
  [[nodiscard]] std::size_t block_bytes() const { return block_bytes_; }

 private:
  struct Below; // the runs of run stacks
  [[nodiscard]] bool commit(std::size_t slots);
  [[nodiscard]] bool make_ready(std::size_t slots);
  [[nodiscard]] bool make_upper_ready(std::size_t runs);
  [[nodiscard]] Slot take_slot();
  [[nodiscard]] std::optional<std::uint32_t> take_upper(std::uint8_t level);
  bool release_some();

  std::optional<Originals> kept_;
  std::byte* block_base_ = nullptr; // copies of the arenas' bases: one load less on the search path
  std::byte* original_base_ = nullptr;
  Node* node_base_ = nullptr;
  Slot* upper_base_ = nullptr;
  std::size_t block_bytes_ = 0;
  std::size_t row_offset_ = 0;
  std::size_t row_bytes_ = 0;
  std::size_t original_stride_ = 0;
  std::size_t original_bytes_ = 0;
  std::uint32_t base_links_ = 0;
  std::uint32_t upper_links_ = 0;
  std::size_t max_slots_ = 0;
  std::size_t max_runs_ = 0;
  Extent slots_; // handed out, free ones included
  Extent runs_;  // of upper_
  BasicFreeSlots<ThreadAtomics> free_;
  std::array<BasicRunStack<ThreadAtomics>, max_level + 1> free_upper_; // by height: first runs

  mutable std::mutex mutex_; // guards what follows, and commits of the arenas
  Slot used_end_ = 0;        // no slot from here on has memory
  Arena blocks_;
  Arena originals_; // reserved only where originals are kept apart
  Arena nodes_;
  Arena upper_;
  Arena free_bits_;
};

} // namespace embedcore::hnsw
