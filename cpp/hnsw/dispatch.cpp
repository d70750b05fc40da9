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
  if (&kernels == &kernels_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (&kernels == &kernels_avx512) return __builtin_cpu_supports("avx512f");
#endif
  return &kernels == &kernels_scalar;
}

const Result<const Kernels*>& chosen_kernels() {
  static const Result<const Kernels*> chosen = choose();
  return chosen;
}

} // namespace embedcore::hnsw
