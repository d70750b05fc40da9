// Points at which a test ends the process as a crash would: EMBEDCORE_FAILPOINT=name, or name:n for the n-th
// time it is passed. The variable is read once; without it a point costs one load and one branch.
//
//   failpoint("snapshot-before-rename");
//
// python/embedcore/failpoints.py has the same for Python, with the same variable; names are unique over both.
#pragma once

namespace embedcore {

namespace failpoints {
extern const bool armed;
void passed(const char* name);
} // namespace failpoints

// Thread-safe. Does nothing, or kills the process with SIGKILL: no destructor and no handler runs.
inline void failpoint(const char* name) {
  if (failpoints::armed) failpoints::passed(name);
}

} // namespace embedcore
