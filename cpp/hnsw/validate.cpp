// Checks of configuration, ids and vectors.
#include "hnsw/validate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "hnsw/kernels.h"
#include "hnsw/originals.h"

namespace embedcore::hnsw {

namespace {

// Beyond it a squared distance of two vectors could overflow float32: |a - b|^2 <= 4 max(|a|, |b|)^2.
constexpr float largest_squared_norm = std::numeric_limits<float>::max() / 4;
// Below it 1 / |v| overflows; a direction made of such values is noise anyway.
constexpr double smallest_norm = 1e-30;

Error refuse(std::string message) { return {Code::invalid_argument, std::move(message)}; }

Status check_range(const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) {
  if (value >= low && value <= high) return {};
  return refuse(std::string(name) + " is " + std::to_string(value) + "; it must be " + std::to_string(low) +
                " to " + std::to_string(high));
}

// Why a row whose sum of squares is not good is refused.
Error explain(const float* row, std::size_t dim, const std::string& name, bool zero) {
  for (std::size_t i = 0; i < dim; ++i) {
    if (!std::isfinite(row[i])) {
      return refuse(name + " holds " + (std::isnan(row[i]) ? "NaN" : "an infinite value") + " at position " +
                    std::to_string(i) + "; all values must be finite");
    }
  }
  if (zero) return refuse(name + " is zero, which has no direction under cosine; leave it out");
  return refuse(name + " is too long for float32 distances (norm above 9e18); scale it down");
}

} // namespace

Status check_config(const Config& config) {
  if (Status s = check_range("dim", config.dim, 1, 65535); !s.ok()) return s;
  if (Status s = check_range("m", config.m, 2, 512); !s.ok()) return s;
  return check_range("ef_construction", config.ef_construction, 1, 1000000);
}

Codes settled_codes(const Config& config) {
  // Bytes already are what int8 codes would be.
  if (config.dtype == Dtype::int8 && config.codes != Codes::int4) return Codes::none;
  if (config.codes != Codes::automatic) return config.codes;
  if (Originals(config).bytes() <= 64) return Codes::none;
  // Where lengths count they may differ: a grid of 16 steps for all vectors is too coarse for the short ones.
  return config.dim >= 384 && config.metric == Metric::cosine ? Codes::int4 : Codes::int8;
}

Status check_ids(std::span<const std::int64_t> ids) {
  for (const std::int64_t id : ids) {
    if (id < 0) return refuse("id " + std::to_string(id) + " is negative; ids are 0 to 2^63-1");
  }
  if (std::is_sorted(ids.begin(), ids.end(), std::less_equal<>())) return {}; // strictly ascending
  std::vector<std::int64_t> sorted(ids.begin(), ids.end());
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice == sorted.end()) return {};
  return refuse("id " + std::to_string(*twice) + " comes more than once in one call; keep its last vector");
}

Status check_vectors(const Config& config, const float* rows, std::size_t n, const char* noun,
                     std::size_t first) {
  const auto& kernels = chosen_kernels();
  if (!kernels.ok()) return kernels.error();
  for (std::size_t i = 0; i < n; ++i) {
    const float* row = rows + i * config.dim;
    // One pass tells all: a NaN or an infinity anywhere makes the sum NaN or infinite.
    const float squared = kernels.value()->dot(row, row, config.dim);
    const bool bounded = squared <= largest_squared_norm; // false for NaN
    bool zero = false;
    if (bounded && config.metric == Metric::cosine && squared < 1e-30f) {
      double exact = 0; // the float sum may have underflowed
      for (std::size_t j = 0; j < config.dim; ++j) exact += static_cast<double>(row[j]) * row[j];
      zero = std::sqrt(exact) < smallest_norm;
    }
    if (bounded && !zero) continue;
    return explain(row, config.dim, std::string(noun) + " " + std::to_string(first + i), zero);
  }
  return {};
}

Status check_fits(const Config& config, const float* rows, std::size_t n) {
  if (config.dtype != Dtype::float16) return {};
  const auto& kernels = chosen_kernels();
  if (!kernels.ok()) return kernels.error();
  for (std::size_t i = 0; i < n; ++i) {
    const float largest = kernels.value()->largest(rows + i * config.dim, config.dim);
    const std::string name = "vector " + std::to_string(i);
    if (largest >= 65520.0f) {
      return refuse(name + " has a value of magnitude " + std::to_string(largest) +
                    ", float16 ends at 65504; scale it down or use dtype bfloat16 or float32");
    }
    if (config.metric == Metric::cosine && largest < 0x1.0p-24f) {
      return refuse(name + " becomes zero in float16; scale it up or use dtype bfloat16 or float32");
    }
  }
  return {};
}

} // namespace embedcore::hnsw
