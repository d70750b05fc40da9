// Repair: live nodes are reconnected around tombstones, after which no walk passes through one. Searches and
// writes go on. The steps of its round (upkeep.h).
//
// Order, so that every live node stays reachable at every moment:
//   1. tombstones are leaving: for readers nothing changes; inserts choose them no more
//   2. the entry moves to a node that stays
//   3. each node that links to leaving ones gets others in their place, chosen among what can be reached
//      through the leaving; its other links stay, those of the tree in any case
//   4. each leaving node is taken out of the tree; now nothing leads to it
// They keep their own links: a reader that stands on one walks on. Reachable at every moment is not the same
// as reached by every walk: one that has passed the new parent before it got its child, and comes to the
// leaving node after nothing leads there, misses that child. Stress tests see it once in a million searches;
// the next search finds it.
//
// Reconnecting through dead neighbours and pruning with alpha = 1.2 follows Singh et al., FreshDiskANN, 2021
// (arXiv:2105.09613), algorithm 4; but lists are extended, not chosen anew: that is ten times cheaper and, on
// real data with 10 to 50% deleted, keeps more recall.
#include <algorithm>

#include "hnsw/impl.h"
#include "hnsw/select.h"

namespace embedcore::hnsw {

namespace {

constexpr float alpha = 1.2f;
constexpr std::size_t most_leaving = 128;      // looked through for one list
constexpr std::size_t contracted_at_once = 64; // nodes and their children, in one exclusive step

} // namespace

Report Index::Impl::repair(const Budget& budget) { return run_upkeep(Verb::repair, budget); }

// How many of these slots are leaving now.
std::size_t Index::Impl::mark_leaving(Slot from, Slot to) {
  const std::shared_lock share(gate); // so that check and save see no state change
  std::size_t marked = 0;
  for (Slot slot = from; slot < to; ++slot) {
    if (storage.state(slot) != State::tombstone || storage.died(slot) > upkeep.horizon) continue;
    storage.set_state(slot, State::leaving);
    ++marked;
  }
  detached.fetch_add(marked, std::memory_order_acq_rel);
  return marked;
}

// The entry goes to a node that stays, if there is one. Every write that may have chosen a leaving node has
// ended then; slots from the returned one on link to none.
Slot Index::Impl::leave_entry() {
  const auto leaves = [this] {
    const Entry now = entry();
    return !now.empty() && !attached(now.slot);
  };
  // Before looking around: what is noted already is seen there.
  highest_new.exchange(Entry{}.packed(), std::memory_order_acq_rel);
  Entry best = leaves() ? best_entry(no_slot) : Entry{};
  const std::unique_lock alone(gate);
  if (leaves()) {
    if (best.empty() || !attached(best.slot)) best = best_entry(no_slot);
    // What was added meanwhile may be higher than this, though not than the entry that leaves.
    const Entry fresh = Entry::of(highest_new.load(std::memory_order_acquire));
    if (!fresh.empty() && attached(fresh.slot) && fresh.level > best.level) best = fresh;
    set_entry(best);
  }
  return storage.end();
}

// The highest node that lives, or else the highest tombstone, or else the last one that is leaving, so that
// it leaves last; none when the graph is empty.
Entry Index::Impl::best_entry(Slot except) const {
  const auto worth = [](State state) {
    return state == State::live ? 3 : state == State::tombstone ? 2 : is_leaving(state) ? 1 : 0;
  };
  Entry best;
  int best_worth = 0;
  const Slot end = storage.end();
  for (Slot slot = 0; slot < end; ++slot) {
    const int now = worth(storage.state(slot));
    if (now == 0 || now < best_worth || slot == except) continue;
    const std::uint32_t level = storage.node(slot).level;
    if (now == best_worth && now > 1 && level <= best.level) continue;
    best = {slot, level};
    best_worth = now;
  }
  return best;
}

// Takes leaving nodes among these slots out of the tree; returns where to go on.
Slot Index::Impl::contract_some(Slot from, Slot to) {
  const auto leaving = [this](Slot slot) { return is_leaving(storage.state(slot)); };
  while (from < to && !leaving(from)) ++from;
  if (from == to) return to;
  const std::unique_lock alone(gate);
  for (std::size_t done = 0; from < to && done < contracted_at_once; ++from) {
    if (!leaving(from)) continue;
    if (entry().slot == from) set_entry(best_entry(from)); // nothing stayed when the sweep began
    done += 1 + tree->contract(from);
    storage.set_state(from, State::detached);
  }
  return from;
}

// Whether slot linked to nodes that are leaving, on this level; if so it does no longer, the tree's links
// excepted. Beside other writers: each link is exchanged by itself, and one that has changed meanwhile was
// changed to something that stays.
bool Index::Impl::reconnect(Slot slot, std::uint32_t level, Scratch& scratch) {
  const Links links = storage.links(slot, level);
  auto& words = scratch.words;
  words.clear();
  for (std::size_t i = 0; i < links.count; ++i) words.push_back(links.word(i));
  const auto leaving = [&](Slot to) { return is_leaving(storage.state(to)); };
  const auto goes = [&](Word word) { return word != empty_word && !is_protected(word) && leaving(word); };
  const auto lost = static_cast<std::size_t>(std::count_if(words.begin(), words.end(), goes));
  if (lost == 0) return false;

  const Probe own = Probe::between(space, slot, scratch.own);
  auto& kept = scratch.best;        // links that stay
  auto& candidates = scratch.found; // what may replace those that go
  auto& through = scratch.fresh;    // leaving nodes, to be looked through in order
  kept.clear();
  candidates.clear();
  through.clear();
  scratch.visited.begin(storage.end(), links.count * (most_leaving + 1));
  scratch.visited.insert(slot);
  for (const Word word : words) {
    const Slot to = target_of(word);
    if (to == no_slot || !scratch.visited.insert(to)) continue;
    if (!goes(word)) kept.push_back({0, to});
    if (leaving(to)) {
      through.push_back(to);
      storage.ask_for_block(to);
    }
  }
  const std::size_t near = through.size();
  for (std::size_t next = 0; next < std::min(through.size(), most_leaving); ++next) {
    // Beyond the direct neighbours only as far as it takes to find enough.
    if (next >= near && candidates.size() >= links.count) break;
    const Links beyond = storage.links(through[next], level);
    for (std::size_t i = 0; i < beyond.count; ++i) {
      const Slot to = beyond.load(i);
      if (to == no_slot || !scratch.visited.insert(to)) continue;
      if (attached(to)) {
        candidates.push_back({0, to});
        own.prefetch(to);
      }
      if (leaving(to)) through.push_back(to);
    }
  }
  if (kept.size() + candidates.size() < links.count / 2 && level <= entry().level) {
    // Almost everything around is gone: look for neighbours as an insert does.
    std::vector<Candidate> nodes{approach(own, entry(), level, scratch)};
    const ScratchPool::Lease walking(scratches);
    neighbourhood(own, level, config.ef_construction, nodes, *walking);
    for (const Candidate& c : nodes) {
      if (attached(c.slot) && scratch.visited.insert(c.slot)) candidates.push_back(c);
    }
  }
  scratch.visited.clear();
  measure_all(own, candidates, scratch);
  // The nearest of them suffice, and each costs a comparison with all that are chosen.
  const std::size_t enough = std::min(candidates.size(), 8 * lost + 8);
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(enough),
                    candidates.end(), nearer);
  candidates.resize(enough);
  // Half as many again as it lost, and two: fewer, and an index that loses most of its items loses recall;
  // more, and longer lists cost every search that comes by.
  Selection selection{std::min<std::size_t>(links.count, kept.size() + lost + lost / 2 + 2), alpha};
  selection.kept = kept;
  select_neighbours(space, candidates, selection, scratch.chosen);

  std::size_t next = kept.size(); // the first that is new
  for (std::size_t i = 0; i < links.count; ++i) {
    const Word word = words[i];
    if (word != empty_word && !goes(word)) continue;
    if (next < scratch.chosen.size()) {
      if (redirect_link(links, i, word, scratch.chosen[next].slot)) ++next;
    } else if (word != empty_word) {
      links.swap(i, word, empty_word);
    }
  }
  return true;
}

} // namespace embedcore::hnsw
