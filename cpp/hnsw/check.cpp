// Check: every invariant of the index that can be verified from what it holds, one line for each breach.
// Writers wait; searches go on. Never follows a link that it has not found to be within the index.
//
// Upkeep may stand in the middle of a round: then nodes that are leaving are still part of the graph, links
// to moved ones are still there, and those that have left are still linked from those that will.
#include <cmath>
#include <string>

#include "hnsw/impl.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t most_problems = 1000;

class Checker {
 public:
  explicit Checker(const Index::Impl& impl) : x_(impl), end_(impl.storage.end()), vector_(impl.config.dim) {}

  std::vector<std::string> run() {
    for (Slot slot = 0; slot < end_; ++slot) {
      if (graph(slot)) check_node(slot);
    }
    check_table();
    check_entry();
    if (problems_.empty()) check_tree(); // which follows links, so they must be sound
    check_reach();
    if (dropped_ != 0) problems_.push_back("and " + std::to_string(dropped_) + " more problems");
    return std::move(problems_);
  }

 private:
  void report(std::string line) {
    if (problems_.size() < most_problems) {
      problems_.push_back(std::move(line));
    } else {
      ++dropped_;
    }
  }
  // Slot numbers mean nothing to a caller, ids do.
  [[nodiscard]] std::string name(Slot slot) const {
    return "id " + std::to_string(x_.storage.node(slot).id) +
           (x_.storage.state(slot) == State::live ? "" : " (tombstone)");
  }
  [[nodiscard]] bool graph(Slot slot) const { return slot < end_ && in_graph(x_.storage.state(slot)); }
  // Whether a walk may follow a link to slot on this level.
  [[nodiscard]] bool sound(Slot slot, std::uint32_t level) const {
    return graph(slot) && x_.storage.node(slot).level >= level;
  }
  [[nodiscard]] bool may_link(Slot from, Slot to, std::uint32_t level) const {
    if (to >= end_ || x_.storage.node(to).level < level) return false;
    const State state = x_.storage.state(to);
    return in_graph(state) || state == State::moved ||
           (state == State::detached && is_leaving(x_.storage.state(from)));
  }

  void check_node(Slot slot) {
    const Node& node = x_.storage.node(slot);
    if (x_.storage.state(slot) == State::pending) report("unfinished insert: " + name(slot));
    if (node.id < 0) report("negative id: " + name(slot));
    // To rounding: a snapshot may come from a processor that fuses multiply and add.
    x_.storage.load_original(slot, vector_.data());
    const float norm = inverse_norm(vector_.data(), x_.config.dim);
    // Both may be infinite: without cosine, vectors as short as 1e-39 are taken.
    if (node.inverse_norm != norm && !(std::abs(node.inverse_norm - norm) <= 1e-6f * norm)) {
      report("norm does not belong to the vector: " + name(slot));
    }
    if (node.level > max_level) {
      report("level " + std::to_string(node.level) + " is too high: " + name(slot));
      return;
    }
    for (std::uint32_t level = 0; level <= node.level; ++level) check_links(slot, level);
  }

  void check_links(Slot slot, std::uint32_t level) {
    const Links links = x_.storage.links(slot, level);
    const std::string where = " on level " + std::to_string(level) + ": " + name(slot);
    for (std::size_t i = 0; i < links.count; ++i) {
      const Slot to = links.load(i);
      if (to == no_slot) continue;
      if (to == slot) report("link to itself" + where);
      if (!may_link(slot, to, level)) report("dangling link" + where);
      if (links.find(to) != i) report("duplicate link" + where);
      if (!is_protected(links.word(i))) continue;
      const bool of_tree = x_.storage.parent(slot) == to || (to < end_ && x_.storage.parent(to) == slot);
      if (level != 0 || !of_tree) report("protected link that is none of the tree's" + where);
    }
  }

  void check_table() {
    std::size_t mapped = 0;
    const Index::Impl::Pin pin(x_);
    for (const Slot slot : x_.table->slots()) {
      ++mapped;
      if (slot >= end_ || x_.storage.state(slot) != State::live) {
        report("id table leads to a slot that is not live: " + (slot < end_ ? name(slot) : "beyond the end"));
      }
    }
    std::size_t live = 0;
    std::size_t dead = 0;
    for (Slot slot = 0; slot < end_; ++slot) {
      const State state = x_.storage.state(slot);
      dead += state == State::tombstone || is_leaving(state) || state == State::detached ? 1u : 0u;
      if (state != State::live) continue;
      ++live;
      if (x_.table->find(x_.storage.node(slot).id) != slot)
        report("live but not in the id table: " + name(slot));
    }
    const auto compare = [this](const char* what, std::size_t counted, std::size_t found) {
      if (counted == found) return;
      report(std::string(what) + " are counted as " + std::to_string(counted) + " but are " +
             std::to_string(found));
    };
    compare("ids in the table", mapped, live);
    compare("live items", x_.live.load(), live);
    compare("tombstones", x_.tombstones.load(), dead);
  }

  void check_entry() {
    const Entry entry = x_.entry();
    bool any = false;
    for (Slot slot = 0; slot < end_ && !any; ++slot) any = x_.attached(slot);
    if (entry.empty()) {
      if (any) report("no entry point, but the graph is not empty");
    } else if (!graph(entry.slot)) {
      report("entry point is not part of the graph");
    } else if (x_.storage.node(entry.slot).level != entry.level) {
      report("entry point has level " + std::to_string(entry.level) + " noted: " + name(entry.slot));
    }
  }

  void check_tree() {
    std::size_t roots = 0;
    for (Slot slot = 0; slot < end_; ++slot) {
      if (!graph(slot)) continue;
      const Slot parent = x_.storage.parent(slot);
      if (parent == no_slot) {
        ++roots;
        continue;
      }
      if (!sound(parent, 0)) {
        report("parent is not part of the graph: " + name(slot));
        continue;
      }
      const auto linked = [this](Slot from, Slot to) {
        const Links links = x_.storage.links(from, 0);
        const std::size_t place = links.find(to);
        return place != links.count && is_protected(links.word(place));
      };
      if (!linked(parent, slot)) report("parent does not link to its child: " + name(slot));
      if (!linked(slot, parent)) report("child does not link to its parent: " + name(slot));
    }
    if (roots > 1) report("the tree has " + std::to_string(roots) + " roots");
  }

  // What a search can reach: from the entry, along sound links of all levels.
  void check_reach() {
    std::vector<bool> reached(end_, false);
    std::vector<Slot> open;
    const auto reach = [&](Slot slot) {
      if (reached[slot]) return;
      reached[slot] = true;
      open.push_back(slot);
    };
    if (const Entry entry = x_.entry(); !entry.empty() && entry.slot < end_) reach(entry.slot);
    while (!open.empty()) {
      const Slot slot = open.back();
      open.pop_back();
      const std::uint32_t top = std::min<std::uint32_t>(x_.storage.node(slot).level, max_level);
      for (std::uint32_t level = 0; level <= top; ++level) {
        const Links links = x_.storage.links(slot, level);
        for (std::size_t i = 0; i < links.count; ++i) {
          const Slot to = links.load(i);
          if (to != no_slot && sound(to, level)) reach(to);
        }
      }
    }
    for (Slot slot = 0; slot < end_; ++slot) {
      if (x_.storage.state(slot) == State::live && !reached[slot])
        report("unreachable live node: " + name(slot));
    }
  }

  const Index::Impl& x_;
  const Slot end_;
  std::vector<float> vector_;
  std::vector<std::string> problems_;
  std::size_t dropped_ = 0;
};

} // namespace

std::vector<std::string> Index::Impl::check() const {
  const std::unique_lock alone(gate);
  return Checker(*this).run();
}

} // namespace embedcore::hnsw
