// Whether a recorded history of one item could have been made one call after another: each call takes effect
// at one moment between its beginning and its end (Herlihy & Wing 1990).
//
// An item is absent or has a value. The search over orders follows Wing & Gong 1993 with the memory of Lowe
// 2017: what was linearized and the state after it is not looked at twice. Calls on different items do not
// touch each other, so a history is checked item by item.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace embedcore::test {

enum class Call : std::uint8_t { add, remove, get, contains };

struct Event {
  std::int64_t id = 0;
  Call call = Call::get;
  std::int64_t value = 0;  // add: what was added; get: what came back
  bool present = false;    // remove, get, contains: what was answered
  std::uint64_t began = 0; // by one clock; began < ended
  std::uint64_t ended = 0;
};

// Of one item, absent at first.
inline bool linearizable_item(std::vector<Event> events) {
  constexpr std::int64_t absent = std::numeric_limits<std::int64_t>::min();
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.began < b.began; });
  // Everything before first has been linearized; of what follows, the events in beyond.
  struct State {
    std::size_t first = 0;
    std::vector<std::size_t> beyond;
    std::int64_t value = absent;
    auto operator<=>(const State&) const = default;
  };
  const auto apply = [&](const Event& e, std::int64_t value, std::int64_t& next) {
    next = value;
    switch (e.call) {
      case Call::add:
        next = e.value;
        return true;
      case Call::remove:
        next = absent;
        return e.present == (value != absent);
      case Call::contains:
        return e.present == (value != absent);
      case Call::get:
        return e.present == (value != absent) && (!e.present || e.value == value);
    }
    return false;
  };
  std::set<State> met;
  std::vector<State> open{{}};
  while (!open.empty()) {
    const State state = std::move(open.back());
    open.pop_back();
    if (state.first == events.size()) return true;
    // Next may be what began before everything that is left ended.
    std::uint64_t first_end = std::numeric_limits<std::uint64_t>::max();
    for (std::size_t i = state.first; i < events.size() && events[i].began < first_end; ++i) {
      if (std::binary_search(state.beyond.begin(), state.beyond.end(), i)) continue;
      State next = state;
      if (apply(events[i], state.value, next.value)) {
        next.beyond.insert(std::upper_bound(next.beyond.begin(), next.beyond.end(), i), i);
        while (!next.beyond.empty() && next.beyond.front() == next.first) {
          next.beyond.erase(next.beyond.begin());
          ++next.first;
        }
        if (met.insert(next).second) open.push_back(std::move(next));
      }
      first_end = std::min(first_end, events[i].ended);
    }
  }
  return false;
}

// The items whose calls cannot be ordered.
inline std::vector<std::int64_t> not_linearizable(const std::vector<Event>& history) {
  std::map<std::int64_t, std::vector<Event>> items;
  for (const Event& e : history) items[e.id].push_back(e);
  std::vector<std::int64_t> wrong;
  for (const auto& [id, events] : items) {
    if (!linearizable_item(events)) wrong.push_back(id);
  }
  return wrong;
}

} // namespace embedcore::test
