// Points at which a test ends the process as a crash would: EMBEDCORE_FAILPOINT=name, or name:n for the n-th
// time it is passed. The variable is read when the first point is passed; without it a point costs two loads.
//
//   failpoint("snapshot-before-rename");
//
// python/embedcore/failpoints.py has the same for Python, with the same variable; names are unique over both.
#pragma once

namespace embedcore {

// Thread-safe. Does nothing, or kills the process with SIGKILL: no destructor and no handler runs.
void failpoint(const char* name);

} // namespace embedcore
