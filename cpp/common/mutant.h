// Faults on demand, for `make mutants`: a build with -DEMBEDCORE_MUTANT=<name>
// -DEMBEDCORE_MUTANT_SOURCE=<file> has one fault planted in that file, and a test must fail in it. In any
// other build mutant() is false at compile time and costs nothing. What lies in a header is tried in the test
// that compiles it.
//
//   if (mutant("lost_link")) return;
#pragma once

#include <string_view>

namespace embedcore {

#ifdef EMBEDCORE_MUTANT
constexpr std::string_view planted_mutant = EMBEDCORE_MUTANT;
#else
constexpr std::string_view planted_mutant = "";
#endif

consteval bool mutant(std::string_view name) { return !name.empty() && name == planted_mutant; }

} // namespace embedcore
