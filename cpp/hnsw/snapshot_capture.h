// What a snapshot will hold, fixed in a moment, while its bytes are copied out for as long as that takes.
//
// The moment: writers are excluded while two words of each slot are noted, its state and its parent in the
// tree (O(slots): some milliseconds a million), the entry and the codes' grid. Everything else about a node
// that was in the graph then either never changes (id, level, norm, vector, code) or is a list of links,
// which may be read later than the moment, since a capture corrects what it reads:
//   * links to slots that were not in the graph at the moment are left out
//   * the links of the tree are those of the moment, made anew where they have gone: they all were in the
//     list together, so there is room. With them every node of the file is reachable, whatever else changed.
//
// Holds while it lives, on account of the index: slots that come free are not used again (slot_hold.h), so
// no byte that is still to be copied is overwritten; codes are not trained anew; nodes are not relocated.
//
// Memory: 5 bytes a slot for the two words, 8 for the children by parent. No copy of links or vectors is
// made.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

class Capture {
 public:
  // Waits for writers that are inside, then keeps new ones out for the moment.
  explicit Capture(Index::Impl& index);
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  [[nodiscard]] Slot end() const { return static_cast<Slot>(states_.size()); }
  // A node of the graph at the moment.
  [[nodiscard]] bool holds(Slot slot) const { return slot < end() && in_graph(states_[slot]); }
  // As the file says it: free, live, tombstone or detached. A round of upkeep that was under way is undone:
  // who was leaving is a tombstone again.
  [[nodiscard]] State state(Slot slot) const;
  [[nodiscard]] Slot parent(Slot slot) const { return parents_[slot]; }
  [[nodiscard]] Entry entry() const { return entry_; }
  [[nodiscard]] float stop_exponent() const { return stop_exponent_; }
  [[nodiscard]] float stop_floor() const { return stop_floor_; }
  // As many as the file has: none while they are not measured, or of no use.
  [[nodiscard]] const std::vector<PartLimit>& part_limits() const { return part_limits_; }
  [[nodiscard]] bool coded() const { return codes_.trained_on != 0; }
  [[nodiscard]] const CodecValues& codes() const { return codes_; }
  // Fills the words of a list as the file has them. Pre-conditions: slot is held and has this level; as many
  // words as the list.
  void links(Slot slot, std::uint32_t level, std::span<Word> words) const;

 private:
  class Saving { // counted, so that training and relocation know
   public:
    explicit Saving(Index::Impl& index) : index_(index) { index_.saving.fetch_add(1); }
    ~Saving() { index_.saving.fetch_sub(1); }
    Saving(const Saving&) = delete;
    Saving& operator=(const Saving&) = delete;

   private:
    Index::Impl& index_;
  };

  [[nodiscard]] bool of_tree(Slot slot, Slot to) const;
  void restore_tree(Slot slot, std::span<Word> words) const;
  void sort_children();

  Index::Impl& x_;
  const Saving saving_;
  const SlotHold::Guard hold_;
  std::vector<State> states_;
  std::vector<Slot> parents_; // of moved nodes: where they live
  std::vector<Slot> first_child_;
  std::vector<Slot> children_; // by parent
  Entry entry_;
  CodecValues codes_;
  float stop_exponent_ = 0;
  float stop_floor_ = 0;
  std::vector<PartLimit> part_limits_;
};

// Copies what the moment holds to a file (snapshot_save.cpp).
Status write_snapshot(const Index::Impl& index, const Capture& moment, const Tag& tag,
                      const std::string& path);

} // namespace embedcore::hnsw
