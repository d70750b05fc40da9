// Every kernel that runs here against sums in double: all tail lengths, unaligned, NaN and infinity.
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "hnsw/kernels.h"

using namespace embedcore::hnsw;

namespace {

std::vector<const Kernels*> running() {
  std::vector<const Kernels*> all;
  for (const Kernels* kernels : compiled_kernels()) {
    if (runs_here(*kernels)) all.push_back(kernels);
  }
  return all;
}

// Of a sum of n products in float32, in any order, relative to the sum of their magnitudes.
constexpr double rounding = 1e-6;

} // namespace

TEST(kernels_agree_with_double_for_all_lengths_and_alignments) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> a(200);
  std::vector<float> b(200);
  for (float& x : a) x = normal(random);
  for (float& x : b) x = normal(random);
  for (const Kernels* kernels : running()) {
    for (std::size_t n = 0; n <= 67; ++n) {
      for (const std::size_t shift : {0, 1, 3, 7}) {
        double dot = 0;
        double l2 = 0;
        double magnitude = 0;
        for (std::size_t i = 0; i < n; ++i) {
          const double x = a[shift + i];
          const double y = b[2 * shift + i];
          dot += x * y;
          magnitude += std::abs(x * y);
          l2 += (x - y) * (x - y);
        }
        CHECK(std::abs(kernels->dot(&a[shift], &b[2 * shift], n) - dot) <= rounding * magnitude);
        CHECK(std::abs(kernels->l2(&a[shift], &b[2 * shift], n) - l2) <= rounding * l2);
      }
    }
  }
}

TEST(kernels_read_no_float_beyond_the_end) {
  const float poison = std::numeric_limits<float>::quiet_NaN();
  for (const Kernels* kernels : running()) {
    for (std::size_t n = 0; n <= 67; ++n) {
      std::vector<float> a(n + 64, poison);
      std::fill_n(a.begin(), n, 1.0f);
      CHECK_EQ(kernels->dot(a.data(), a.data(), n), static_cast<float>(n));
      CHECK_EQ(kernels->l2(a.data(), a.data(), n), 0.0f);
    }
  }
}

TEST(kernels_pass_on_nan_and_infinity_from_any_position) {
  for (const Kernels* kernels : running()) {
    for (std::size_t at = 0; at < 67; ++at) {
      std::vector<float> a(67, 1.0f);
      const std::vector<float> ones(67, 1.0f);
      a[at] = std::numeric_limits<float>::quiet_NaN();
      CHECK(std::isnan(kernels->dot(a.data(), ones.data(), a.size())));
      CHECK(std::isnan(kernels->l2(a.data(), ones.data(), a.size())));
      a[at] = std::numeric_limits<float>::infinity();
      CHECK(std::isinf(kernels->dot(a.data(), ones.data(), a.size())));
      CHECK(std::isinf(kernels->l2(a.data(), ones.data(), a.size())));
    }
  }
}

TEST(the_chosen_kernels_run_here) {
  const auto& chosen = chosen_kernels();
  CHECK(chosen.ok());
  CHECK(runs_here(*chosen.value()));
  CHECK_EQ(std::string(compiled_kernels().front()->name), "scalar");
}
