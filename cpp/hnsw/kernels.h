// Distance kernels: one set of functions per instruction set, chosen once when the first index is made.
//
// EMBEDCORE_ISA forces a set by name (scalar, avx2, avx512). Sums are in float32 and their order differs
// between sets, so results agree to rounding only; within one set they are the same on every run.
#pragma once

#include <span>

#include "common/status.h"
#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

// The sets built into this binary, narrowest first.
[[nodiscard]] std::span<const Kernels* const> compiled_kernels();
// Whether this processor, with this system, runs them.
[[nodiscard]] bool runs_here(const Kernels& kernels);
// The widest set that runs here, or the one that EMBEDCORE_ISA names. The environment is read at the
// first call only. invalid_argument when it names a set that does not exist or does not run here.
[[nodiscard]] const Result<const Kernels*>& chosen_kernels();

} // namespace embedcore::hnsw
