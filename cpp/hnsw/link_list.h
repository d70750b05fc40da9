// One list of links that any number of threads change at once, without a lock: every change is one
// compare-and-swap of one word.
//
//   a word    empty, or the slot that the link leads to in its low 31 bits; the top bit marks a link of the
//             tree of protected links (tree.h)
//
// What a word may become, and by whom
//   empty -> x            add_link: inserts, upkeep
//   empty -> x protected  Tree::attach and upkeep
//   x     -> x protected  upkeep
//   x     -> y, empty     pruning and upkeep; expects x without the top bit, so that of protecting a link and
//                         dropping it only one succeeds
//   x protected -> others only while writers are excluded (contracting the tree, moving nodes)
//
// Progress: lock-free. An exchange fails only when another thread's succeeded. An unprotected link may be
// given up after a few failures; a protected one is tried until it is in.
//
// Ordering: exchanges and the loads of these functions are sequentially consistent, because settle() must not
// be passed by both of two threads that add the same link in two places: each writes, then reads the other's.
// Readers load with acquire; whatever a link leads to was complete before the link was stored.
//
// ABA: a word that was x, something else and x again is as good as one that was always x, as long as slot x
// was not reused meanwhile. It is not: whoever changes lists holds an epoch guard.
//
// List gives: count; word(i), a load; swap(i, expected, desired). The tests run these functions over all
// interleavings with a List of their own.
//
// When not to use it: for lists that must hold exactly one set at a time; readers see each change by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "common/mutant.h"

namespace embedcore::hnsw {

using Slot = std::uint32_t;
using Word = std::uint32_t;
constexpr Slot no_slot = std::numeric_limits<Slot>::max();
constexpr Word empty_word = std::numeric_limits<Word>::max();
constexpr Word protected_bit = Word{1} << 31;

constexpr Slot target_of(Word word) { return word == empty_word ? no_slot : word & ~protected_bit; }
constexpr bool is_protected(Word word) { return word != empty_word && (word & protected_bit) != 0; }
constexpr Word protected_link(Slot slot) { return slot | protected_bit; }

// Drops all but one of the links to slot: the first stays, or the protected one. To be called after adding.
template <class List>
void settle(const List& list, Slot slot) {
  std::size_t kept = list.count;
  for (std::size_t i = 0; i < list.count; ++i) {
    const Word word = list.word(i);
    if (target_of(word) != slot) continue;
    if (kept == list.count) {
      kept = i;
    } else if (!is_protected(word)) {
      list.swap(i, slot, empty_word);
    } else {
      list.swap(kept, slot, empty_word);
      kept = i;
    }
  }
}

enum class Added { there, added, full };

// Makes a link to slot in an empty place, unless there is one.
template <class List>
Added add_link(const List& list, Slot slot) {
  for (;;) {
    std::size_t place = list.count;
    for (std::size_t i = 0; i < list.count; ++i) {
      const Word word = list.word(i);
      if (target_of(word) == slot) return Added::there;
      if (word == empty_word && place == list.count) place = i;
    }
    if (place == list.count) return Added::full;
    if (!list.swap(place, empty_word, slot)) continue;
    if (!mutant("no_settle")) settle(list, slot);
    return Added::added;
  }
}

// Makes a protected link to slot: of the one that is there, or in an empty place. full: neither.
template <class List>
Added protect_link(const List& list, Slot slot) {
  for (;;) {
    std::size_t place = list.count;
    std::size_t found = list.count;
    for (std::size_t i = 0; i < list.count; ++i) {
      const Word word = list.word(i);
      if (word == protected_link(slot)) return Added::there;
      if (word == slot && found == list.count) found = i;
      if (word == empty_word && place == list.count) place = i;
    }
    if (found != list.count) {
      if (list.swap(found, slot, protected_link(slot))) return settle(list, slot), Added::added;
    } else if (place == list.count) {
      return Added::full;
    } else if (list.swap(place, empty_word, protected_link(slot))) {
      return settle(list, slot), Added::added;
    }
  }
}

// Puts desired in the place of expected, which is no protected link. False: that place has changed meanwhile.
template <class List>
bool replace_link(const List& list, std::size_t place, Word expected, Word desired) {
  if (mutant("blind_drop")) expected = list.word(place);
  if (!list.swap(place, expected, desired)) return false;
  if (desired != empty_word) settle(list, target_of(desired));
  return true;
}

// The link expected, which is unprotected, or empty, becomes one to slot, or empty where there is one
// already. False: that place has changed meanwhile.
template <class List>
bool redirect_link(const List& list, std::size_t place, Word expected, Slot slot) {
  for (std::size_t i = 0; i < list.count; ++i) {
    if (target_of(list.word(i)) == slot)
      return expected == empty_word || list.swap(place, expected, empty_word);
  }
  return replace_link(list, place, expected, slot);
}

} // namespace embedcore::hnsw
