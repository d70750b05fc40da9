// Kernels for any processor. Eight partial sums, so that additions do not wait for one another.
#include "hnsw/kernel_set.h"

namespace embedcore::hnsw {

namespace {

constexpr std::size_t lanes = 8;

template <class Term>
float sum(const float* a, const float* b, std::size_t n, Term term) {
  float partial[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (std::size_t j = 0; j < lanes; ++j) partial[j] += term(a[i + j], b[i + j]);
  }
  for (std::size_t j = 0; i < n; ++i, ++j) partial[j] += term(a[i], b[i]);
  return ((partial[0] + partial[4]) + (partial[1] + partial[5])) +
         ((partial[2] + partial[6]) + (partial[3] + partial[7]));
}

float dot(const float* a, const float* b, std::size_t n) {
  return sum(a, b, n, [](float x, float y) { return x * y; });
}

float l2(const float* a, const float* b, std::size_t n) {
  return sum(a, b, n, [](float x, float y) { return (x - y) * (x - y); });
}

} // namespace

const Kernels kernels_scalar{"scalar", dot, l2};

} // namespace embedcore::hnsw
