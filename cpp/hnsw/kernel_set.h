// What one instruction set provides. This header has no inline code and includes none: it is all that the
// files compiled for wide instructions see.
#pragma once

#include <cstddef>

namespace embedcore::hnsw {

// Both read n floats from each side, at any alignment.
using Kernel = float (*)(const float* a, const float* b, std::size_t n);

struct Kernels {
  const char* name;
  Kernel dot; // sum of a[i] * b[i]
  Kernel l2;  // sum of (a[i] - b[i])^2
};

extern const Kernels kernels_scalar;
#ifdef EMBEDCORE_X86
extern const Kernels kernels_avx2;   // AVX2 and FMA
extern const Kernels kernels_avx512; // AVX-512 F
#endif

} // namespace embedcore::hnsw
