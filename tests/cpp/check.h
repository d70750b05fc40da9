// A test harness in one header: TEST(name) { CHECK(condition); CHECK_EQ(a, b); }. A failed check
// reports and the run exits 1. Run with a part of a name to run the tests that contain it, or with --slow.
// SLOW_TEST is one that ThreadSanitizer, which makes everything ten times slower, leaves to `make torture`.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>
#include <vector>

namespace embedcore::test {

struct Case {
  const char* name;
  void (*run)();
  bool slow;
};

#ifdef __SANITIZE_THREAD__
inline bool leaves_slow_ones() { return std::getenv("EMBEDCORE_STRESS") == nullptr; }
#else
inline bool leaves_slow_ones() { return false; }
#endif

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Register {
  Register(const char* name, void (*run)(), bool slow) { cases().push_back({name, run, slow}); }
};

inline void fail(const char* file, int line, const std::string& what) {
  ++failures();
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

template <class A, class B>
void check_equal(const char* file, int line, const char* text, const A& a, const B& b) {
  if (a == b) return;
  std::ostringstream out;
  out << text << ": " << a << " against " << b;
  fail(file, line, out.str());
}

inline int run_all(int argc, char** argv) {
  int ran = 0;
  int failed = 0;
  for (const Case& c : cases()) {
    const bool all_slow = argc > 1 && std::strcmp(argv[1], "--slow") == 0;
    if (all_slow ? !c.slow : argc > 1 && std::strstr(c.name, argv[1]) == nullptr) continue;
    if (c.slow && leaves_slow_ones()) {
      std::printf("left to make torture: %s\n", c.name);
      continue;
    }
    const int before = failures();
    c.run();
    ++ran;
    if (failures() != before) {
      ++failed;
      std::fprintf(stderr, "FAILED %s\n", c.name);
    }
  }
  std::printf("%d passed, %d failed\n", ran - failed, failed);
  return failed == 0 && ran > 0 ? 0 : 1;
}

} // namespace embedcore::test

#define TEST(name) EMBEDCORE_TEST(name, false)
#define SLOW_TEST(name) EMBEDCORE_TEST(name, true)
#define EMBEDCORE_TEST(name, slow)                                                     \
  static void test_##name();                                                           \
  static const ::embedcore::test::Register register_##name(#name, &test_##name, slow); \
  static void test_##name()
#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) ::embedcore::test::fail(__FILE__, __LINE__, #condition); \
  } while (false)
#define CHECK_EQ(a, b) ::embedcore::test::check_equal(__FILE__, __LINE__, #a " == " #b, (a), (b))
