// What makes and opens codes: vectors to a grid, bit planes to values. Included by walk_loop.h, whose rule
// holds here too: unnamed namespace, nothing shared.
#pragma once

#include "hnsw/walk_queue.h" // for vectors of any alignment

namespace embedcore::hnsw {

namespace {

std::size_t quantise(const float* x, const float* mean, float inverse, int limit, std::size_t n,
                     std::int8_t* out) {
  const auto most = static_cast<float>(limit);
  std::uint32_t cut = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float value = (mean == nullptr ? x[i] : x[i] - mean[i]) * inverse;
    cut += (value > most ? 1u : 0u) + (value < -most ? 1u : 0u);
    const float low = value < most ? value : most;
    const float kept = low > -most ? low : -most;
    out[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(kept + (kept < 0 ? -0.5f : 0.5f)));
  }
  return cut;
}

float largest(const float* x, std::size_t n) {
  Floats most{};
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const Floats v = *reinterpret_cast<const Floats*>(x + i);
    const Floats magnitude = v < 0 ? -v : v;
    most = magnitude > most ? magnitude : most;
  }
  float result = 0;
  for (std::size_t j = 0; j < 16; ++j) result = most[j] > result ? most[j] : result;
  for (; i < n; ++i) {
    const float magnitude = x[i] < 0 ? -x[i] : x[i];
    result = magnitude > result ? magnitude : result;
  }
  return result;
}

template <class U4>
void unpack(const std::byte* u4, std::size_t n, std::uint8_t* out) {
  if constexpr (requires { U4::unpack; }) {
    U4::unpack(u4, n, out);
    return;
  }
  const auto* high = reinterpret_cast<const std::uint8_t*>(u4);
  const std::uint8_t* pairs = high + n / 8;
  const std::uint8_t* low = pairs + n / 4;
  for (std::size_t d = 0; d < n; d += 128, high += 16, pairs += 32, low += 16, out += 128) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      for (std::size_t i = 0; i < 16; ++i) {
        const unsigned ends = (high[i] >> bit & 1u) << 7 | (low[i] >> bit & 1u) << 4;
        out[16 * bit + i] = static_cast<std::uint8_t>(ends);
      }
    }
    for (unsigned field = 0; field < 4; ++field) {
      for (std::size_t i = 0; i < 32; ++i) {
        const unsigned middle = (pairs[i] >> 2 * field & 3u) << 5;
        out[32 * field + i] = static_cast<std::uint8_t>(out[32 * field + i] | middle);
      }
    }
  }
}

} // namespace

} // namespace embedcore::hnsw
