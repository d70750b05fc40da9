// A round of upkeep as it stands: what repair, compact and relocate are doing to the whole index, in small
// steps, from any number of threads, while searches and writes go on. The round belongs to the index, not to
// a call: a call works on it for as long as its budget lasts, and the next one goes on from there, whichever
// verb it asks for; then its own round begins.
//
//                  repair, compact                               relocate
//   mark     s/x   tombstones become `leaving`                   tail nodes move into free slots
//   enter    x     the entry leaves nodes that are leaving, and every write that did not know of them ends
//   sweep    s     every list is looked at: links to those are replaced by others, or lead to the new place
//   contract x     each of those leaves the tree: `detached`
//   retire   s     they wait for their epoch, then are free      the old slots likewise; the tail goes back
//
// s: a step shares the gate with writers and other sweepers. x: it holds the gate alone, for a few nodes.
//
// Why a round ends, whatever else goes on: once marked, a node is chosen by no insert, so links to it only
// grow fewer; a sweep looks at each list once and sees all of them. Rounds do not overlap.
//
// Guarantee: after each step every live node is reachable, and a snapshot of the index is sound.
// Locks: turn, then the gate. turn is never held while a list is swept, nor by a writer or
// a reader.
// When not to use it: this is no scheduler. It does what a call asks for, on the threads of that call.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "hnsw/storage.h"

namespace embedcore::hnsw {

enum class Verb : std::uint8_t { none, repair, compact, relocate };
enum class Phase : std::uint8_t { mark, enter, sweep, contract, retire };

struct Upkeep {
  std::mutex turn;                  // guards what follows
  std::condition_variable returned; // a sweeper has come back
  Verb verb = Verb::none;           // none: no round is under way
  Phase phase = Phase::mark;
  std::uint64_t number = 0;  // of the round
  std::uint64_t horizon = 0; // tombstones up to this switch may go
  Slot cursor = 0;           // the phase has done [0, cursor); while nodes move, [cursor, end)
  Slot end = 0;              // what it has to do
  Slot lowest_moved = 0;
  Slot copies_end = 0;    // the slot after the last copy
  std::size_t marked = 0; // nodes
  unsigned sweeping = 0;  // threads that have a piece of the sweep
};

} // namespace embedcore::hnsw
