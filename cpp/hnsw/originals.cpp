// Rounding to the kept types and back. Branches are written as selections, so that compilers make vector
// code of the loops.
#include "hnsw/originals.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace embedcore::hnsw {

namespace {

constexpr std::size_t padded(std::size_t dim) { return (dim + 63) / 64 * 64; }

std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  // Below the smallest normal half: adding 0.5 rounds to its last place, in hardware.
  const std::uint32_t small =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3F000000u;
  const std::uint32_t normal = (magnitude + 0xC8000FFFu + ((magnitude >> 13) & 1u)) >> 13;
  const std::uint32_t half = magnitude < 0x38800000u ? small : normal;
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | half);
}

float from_half(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16;
  const float magnitude = std::bit_cast<float>(std::uint32_t{half & 0x7FFFu} << 13) * 0x1.0p112f;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
}

std::uint16_t to_bfloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

float from_bfloat(std::uint16_t half) { return std::bit_cast<float>(std::uint32_t{half} << 16); }

template <std::uint16_t (*to)(float), float (*from)(std::uint16_t)>
float store_halves(const float* vector, std::byte* row, std::size_t dim) {
  double sum = 0;
  for (std::size_t i = 0; i < dim; ++i) {
    const std::uint16_t half = to(vector[i]);
    std::memcpy(row + 2 * i, &half, sizeof(half));
    const double kept = from(half);
    sum += kept * kept;
  }
  return sum > 0 ? static_cast<float>(1.0 / std::sqrt(sum)) : 0.0f;
}

template <float (*from)(std::uint16_t)>
void load_halves(const std::byte* row, float* vector, std::size_t dim) {
  for (std::size_t i = 0; i < dim; ++i) {
    std::uint16_t half = 0;
    std::memcpy(&half, row + 2 * i, sizeof(half));
    vector[i] = from(half);
  }
}

} // namespace

float inverse_norm(const float* v, std::size_t dim) {
  double partial[4] = {};
  std::size_t i = 0;
  for (; i + 4 <= dim; i += 4) {
    for (std::size_t j = 0; j < 4; ++j)
      partial[j] += static_cast<double>(v[i + j]) * static_cast<double>(v[i + j]);
  }
  for (std::size_t j = 0; i < dim; ++i, ++j)
    partial[j] += static_cast<double>(v[i]) * static_cast<double>(v[i]);
  const double sum = (partial[0] + partial[1]) + (partial[2] + partial[3]);
  return sum > 0 ? static_cast<float>(1.0 / std::sqrt(sum)) : 0.0f;
}

Form Originals::form() const {
  switch (dtype_) {
    case Dtype::float16:
      return Form::f16;
    case Dtype::bfloat16:
      return Form::bf16;
    case Dtype::int8:
      return Form::s8;
    case Dtype::float32:
      break;
  }
  return Form::f32;
}

std::size_t Originals::bytes() const {
  if (dtype_ == Dtype::int8) return padded(dim_) + sizeof(Scales);
  return dim_ * (dtype_ == Dtype::float32 ? 4 : 2);
}

float Originals::store(const float* vector, std::byte* row) const {
  switch (dtype_) {
    case Dtype::float16:
      return store_halves<to_half, from_half>(vector, row, dim_);
    case Dtype::bfloat16:
      return store_halves<to_bfloat, from_bfloat>(vector, row, dim_);
    case Dtype::int8:
      return store_int8(vector, row);
    case Dtype::float32:
      break;
  }
  std::memcpy(row, vector, dim_ * sizeof(float));
  return inverse_norm(vector, dim_);
}

float Originals::store_int8(const float* vector, std::byte* row) const {
  float largest = 0;
  for (std::size_t i = 0; i < dim_; ++i) largest = std::max(largest, std::abs(vector[i]));
  // A step below the normal floats would be too coarse for 127 of it to reach the largest value.
  const float step = largest > 0 ? std::max(largest / 127.0f, std::numeric_limits<float>::min()) : 1.0f;
  std::uint64_t squares = 0;
  for (std::size_t i = 0; i < padded(dim_); ++i) {
    // In double: 1 / step can overflow a float.
    const double whole = i < dim_ ? std::nearbyint(static_cast<double>(vector[i]) / step) : 0.0;
    const auto value = static_cast<std::int32_t>(whole);
    squares += static_cast<std::uint64_t>(value * value);
    row[i] = static_cast<std::byte>(static_cast<std::int8_t>(value));
  }
  const double length = std::sqrt(static_cast<double>(squares));
  Scales scales{step, step, 0};
  if (metric_ == Metric::cosine) scales.factor = length > 0 ? static_cast<float>(1.0 / length) : 0.0f;
  if (metric_ == Metric::l2) scales.term = static_cast<float>(length * length * step * step);
  std::memcpy(row + padded(dim_), &scales, sizeof(scales));
  return length > 0 ? static_cast<float>(1.0 / (length * step)) : 0.0f;
}

void Originals::load(const std::byte* row, float* vector) const {
  switch (dtype_) {
    case Dtype::float16:
      load_halves<from_half>(row, vector, dim_);
      return;
    case Dtype::bfloat16:
      load_halves<from_bfloat>(row, vector, dim_);
      return;
    case Dtype::int8: {
      Scales scales{};
      std::memcpy(&scales, row + padded(dim_), sizeof(scales));
      for (std::size_t i = 0; i < dim_; ++i)
        vector[i] = scales.step * static_cast<float>(static_cast<std::int8_t>(row[i]));
      return;
    }
    case Dtype::float32:
      break;
  }
  std::memcpy(vector, row, dim_ * sizeof(float));
}

} // namespace embedcore::hnsw
