#include "hnsw/queue.h"

#include <random>

#include "check.h"

using namespace embedcore::hnsw;

TEST(the_queue_keeps_the_nearest_sorted_and_expands_each_once) {
  std::mt19937 random(2);
  for (const std::size_t capacity : {1, 2, 7, 64}) {
    SortedQueue queue;
    queue.reset(capacity);
    std::vector<Candidate> all;
    std::vector<bool> expanded(500, false);
    for (Slot slot = 0; slot < 500; ++slot) {
      const auto distance = static_cast<float>(random() % 1000000) + static_cast<float>(slot) / 1000;
      all.push_back({distance, slot});
      queue.push(distance, slot);
      if (slot % 3 == 0) {
        if (const Slot next = queue.expand(); next != no_slot) {
          CHECK(!expanded[next]);
          expanded[next] = true;
        }
      }
      std::sort(all.begin(), all.end(), nearer);
      CHECK_EQ(queue.size(), std::min(capacity, all.size()));
      for (std::size_t i = 0; i < queue.size(); ++i) CHECK_EQ(queue[i].slot, all[i].slot);
    }
    // What is left is expanded nearest first.
    float last = -1;
    for (Slot slot = queue.expand(); slot != no_slot; slot = queue.expand()) {
      CHECK(!expanded[slot]);
      const auto at =
          std::find_if(all.begin(), all.end(), [slot](const Candidate& c) { return c.slot == slot; });
      CHECK(at->distance > last);
      last = at->distance;
    }
  }
}

TEST(the_bound_is_infinite_until_the_queue_is_full) {
  SortedQueue queue;
  queue.reset(2);
  CHECK(std::isinf(queue.bound()));
  queue.push(1.0f, 1);
  CHECK(std::isinf(queue.bound()));
  queue.push(3.0f, 2);
  CHECK_EQ(queue.bound(), 3.0f);
  queue.push(2.0f, 3);
  CHECK_EQ(queue.bound(), 2.0f);
}
