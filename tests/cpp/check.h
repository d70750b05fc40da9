// A test harness in one header: TEST(name) { CHECK(condition); CHECK_EQ(a, b); }. A failed check
// reports and the run exits 1. Run with a part of a name to run the tests that contain it.
#pragma once

#include <cstdio>
#include <cstring>
#include <iostream>
#include <sstream>
#include <vector>

namespace embedcore::test {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
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
    if (argc > 1 && std::strstr(c.name, argv[1]) == nullptr) continue;
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

#define TEST(name)                                                               \
  static void test_##name();                                                     \
  static const ::embedcore::test::Register register_##name(#name, &test_##name); \
  static void test_##name()
#define CHECK(condition)                                                       \
  do {                                                                         \
    if (!(condition)) ::embedcore::test::fail(__FILE__, __LINE__, #condition); \
  } while (false)
#define CHECK_EQ(a, b) ::embedcore::test::check_equal(__FILE__, __LINE__, #a " == " #b, (a), (b))
