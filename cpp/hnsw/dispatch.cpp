// Which kernels run: asked once, from the processor and EMBEDCORE_ISA.
#include <array>
#include <cstdlib>
#include <string>

#include "hnsw/kernels.h"

namespace embedcore::hnsw {

namespace {

constexpr std::array all = {
    &kernels_scalar,
#ifdef EMBEDCORE_X86
    &kernels_avx2,
    &kernels_avx512,
#endif
#ifdef EMBEDCORE_NEON
    &kernels_neon,
#endif
};

Result<const Kernels*> choose() {
  const char* forced = std::getenv("EMBEDCORE_ISA");
  std::string usable;
  const Kernels* widest = nullptr;
  for (const Kernels* kernels : all) {
    if (!runs_here(*kernels)) continue;
    if (forced != nullptr && std::string(forced) == kernels->name) return kernels;
    usable += (usable.empty() ? "" : ", ") + std::string(kernels->name);
    widest = kernels;
  }
  if (forced == nullptr || *forced == '\0') return widest;
  return Error{Code::invalid_argument,
               "EMBEDCORE_ISA is '" + std::string(forced) +
                   "', which this processor or build does not have: unset it or use " + usable};
}

} // namespace

std::span<const Kernels* const> compiled_kernels() { return all; }

bool runs_here(const Kernels& kernels) {
#ifdef EMBEDCORE_X86
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (&kernels == &kernels_avx2) return avx2;
#ifdef EMBEDCORE_CROSS_AVX512 // the intrinsics are emulated: tests/cpp/cross
  if (&kernels == &kernels_avx512) return true;
#else
  if (&kernels == &kernels_avx512) {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
  }
#endif
#endif
#ifdef EMBEDCORE_NEON
  if (&kernels == &kernels_neon) return true;
#endif
  return &kernels == &kernels_scalar;
}

const Result<const Kernels*>& chosen_kernels() {
  static const Result<const Kernels*> chosen = choose();
  return chosen;
}

} // namespace embedcore::hnsw
