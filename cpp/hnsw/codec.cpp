// Training, encoding, and queries against codes.
#include "hnsw/codec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/mutant.h"
#include "hnsw/code_grid.h"

namespace embedcore::hnsw {

namespace {

constexpr int most_of_byte = 127;
constexpr int most_of_l2 = 63;
constexpr float deviations = 1.5f; // between the estimate by highest bits and what rules a node out

std::size_t width_of(const Config& config) {
  const std::size_t unit = config.codes == Codes::int4 ? 128 : 64;
  return (config.dim + unit - 1) / unit * unit;
}

// To the nearest whole number, ties to even, of a value well within 2^22. Not std::nearbyint, which is a call
// where the processor is only known to have SSE2.
inline float rounded(float x) {
  constexpr float shift = 12582912.0f; // 1.5 * 2^23: what is added loses its fraction
  return (x + shift) - shift;
}

// What a grid keeps of x / step.
inline float kept_int8(float x, float most) { return rounded(x < -most ? -most : (x > most ? most : x)); }
inline float kept_int4(float x) {
  const float u = x / 16 + 7.5f;
  return 16 * rounded(u < 0 ? 0.0f : (u > 15 ? 15.0f : u)) - 120;
}

// Mean squared error of the grid with this step over values from which the mean was taken. Many lanes of
// short sums, which compilers turn into vector instructions; no sum is so long that floats would lose count.
template <class Kept>
double error_of(std::span<const float> centred, float step, Kept kept) {
  constexpr std::size_t lanes = 16;
  constexpr std::size_t stretch = 64 * lanes;
  const float inverse = 1.0f / step;
  double sum = 0;
  for (std::size_t from = 0; from < centred.size(); from += stretch) {
    const std::size_t to = std::min(from + stretch, centred.size());
    std::array<float, lanes> parts{};
    std::size_t i = from;
    for (; i + lanes <= to; i += lanes) {
      for (std::size_t l = 0; l < lanes; ++l) {
        const float lost = centred[i + l] - kept(centred[i + l] * inverse) * step;
        parts[l] += lost * lost;
      }
    }
    for (; i < to; ++i) {
      const float lost = centred[i] - kept(centred[i] * inverse) * step;
      parts[0] += lost * lost;
    }
    for (const float part : parts) sum += static_cast<double>(part);
  }
  return centred.empty() ? 0.0 : sum / static_cast<double>(centred.size());
}

double error_of(Codes codes, int most, std::span<const float> centred, float step) {
  if (codes == Codes::int4) return error_of(centred, step, kept_int4);
  const auto end = static_cast<float>(most);
  return error_of(centred, step, [end](float x) { return kept_int8(x, end); });
}

// v = 16 u - 120 of the sample: high = E[v^2] / E|v|, and what +-high leaves out.
void measure_high_bit(std::span<const float> centred, CodecValues& values) {
  double squares = 0;
  double magnitudes = 0;
  for (const float x : centred) {
    const float u = rounded(std::clamp(x / values.step / 16 + 7.5f, 0.0f, 15.0f));
    const double v = std::abs(16.0 * static_cast<double>(u) - 120.0);
    squares += v * v;
    magnitudes += v;
  }
  if (!(magnitudes > 0)) return;
  const auto n = static_cast<double>(centred.size());
  const double high = squares / magnitudes;
  values.high = static_cast<float>(high);
  values.high_error = static_cast<float>(std::sqrt(squares / n - 2 * high * magnitudes / n + high * high));
}

} // namespace

Codec::Codec(const Config& config, const Kernels& kernels, CodecValues values)
    : dim_(config.dim),
      width_(width_of(config)),
      metric_(config.metric),
      form_(config.codes == Codes::int4 ? Form::u4
            : values.most == most_of_l2 ? Form::i7
                                        : Form::i8),
      kernels_(kernels),
      values_(std::move(values)) {}

std::size_t Codec::bytes(const Config& config) {
  if (config.codes == Codes::none) return 0;
  return config.codes == Codes::int4 ? width_of(config) / 2 : width_of(config);
}

CodecValues Codec::train(const Config& config, std::span<const float> sample, std::uint64_t population) {
  const std::size_t dim = config.dim;
  const std::size_t n = sample.size() / dim;
  CodecValues values;
  values.trained_on = population;
  if (config.codes == Codes::int8 && config.metric == Metric::l2) values.most = most_of_l2;
  values.mean.assign(dim, 0.0f);
  if (config.metric != Metric::inner_product) {
    std::vector<double> totals(dim, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
      const float* row = sample.data() + i * dim;
      for (std::size_t j = 0; j < dim; ++j) totals[j] += static_cast<double>(row[j]);
    }
    for (std::size_t j = 0; j < dim; ++j)
      values.mean[j] = static_cast<float>(totals[j] / static_cast<double>(n));
  }
  // A few hundred thousand values settle the step.
  const std::size_t rows = std::min(n, std::max<std::size_t>(64, (std::size_t{1} << 17) / dim));
  std::vector<float> centred;
  centred.reserve(rows * dim);
  float largest = 0;
  for (std::size_t i = 0; i < rows; ++i) {
    const float* row = sample.data() + i * n / rows * dim;
    for (std::size_t j = 0; j < dim; ++j) {
      centred.push_back(row[j] - values.mean[j]);
      largest = std::max(largest, std::abs(centred.back()));
    }
  }
  if (!(largest > 0)) largest = 1.0f; // all vectors are equal: any step will do
  const float widest = largest / (config.codes == Codes::int4 ? 120.0f : static_cast<float>(values.most));
  double best = -1;
  for (float share = 1.0f; share > 0.02f; share *= 0.94f) {
    const double error = error_of(config.codes, values.most, centred, widest * share);
    if (best >= 0 && error >= best) continue;
    best = error;
    values.step = widest * share;
  }
  values.error = static_cast<float>(std::sqrt(best));
  if (config.codes == Codes::int4) measure_high_bit(centred, values);
  return values;
}

std::size_t Codec::encode(const float* vector, std::byte* code) const {
  const float* mean = values_.mean.data();
  const bool balanced = metric_ != Metric::l2 && !mutant("unbalanced_codes");
  if (form_ != Form::u4) {
    auto* out = reinterpret_cast<std::int8_t*>(code);
    std::memset(out, 0, width_);
    const std::size_t cut = kernels_.quantise(vector, mean, 1.0f / values_.step, values_.most, dim_, out);
    if (!balanced) return cut;
    Balance balance({mean, values_.step, 0.0f, -values_.most, values_.most});
    balance.look(vector, out, 0, dim_);
    balance.move(vector, out, 0, dim_);
    return cut;
  }
  const float unit = 16 * values_.step;
  Balance balance({mean, unit, 7.5f, 0, 15});
  std::array<std::uint8_t, code_block> whole;
  int cut = 0;
  for (std::size_t at = 0; balanced && at < dim_; at += code_block) {
    const std::size_t n = std::min(code_block, dim_ - at);
    quantise_int4(vector + at, mean + at, 1.0f / unit, n, whole.data());
    balance.look(vector + at, whole.data(), at, n);
  }
  for (std::size_t at = 0; at < width_; at += code_block) {
    const std::size_t n = std::min(code_block, dim_ - std::min(dim_, at));
    if (n != code_block) whole.fill(0);
    cut += quantise_int4(vector + at, mean + at, 1.0f / unit, n, whole.data());
    if (balanced) balance.move(vector + at, whole.data(), at, n);
    pack_int4(whole.data(), code + at / 8, code + width_ / 8 + at / 4,
              code + width_ / 8 + width_ / 4 + at / 8);
  }
  return static_cast<std::size_t>(cut);
}

// Distances 1 - (constant + unit * sum of query * v) of integers v. length: of the query, in its units; 0: no
// estimate is made.
//
// The highest bits alone, as +-high, give an estimate of the sum (Gao & Long, RaBitQ, 2024: scaled so that it
// is unbiased for near vectors); what they leave out adds up like noise over the dimensions, so the true sum
// is above the estimate by more than two deviations in very few cases.
Codec::Prepared Codec::finish_dot(const std::int8_t* query, float unit, float constant, float length) const {
  Measure m{};
  m.query = query;
  m.n = width_;
  if (form_ != Form::u4) {
    m.offset = 1.0f - constant;
    m.scale = -unit;
  } else {
    std::int32_t total = 0; // of v = 16 u - 120 over dim_; the padding has query 0
    for (std::size_t i = 0; i < width_; ++i) total += query[i];
    m.offset = 1.0f - constant + 120.0f * unit * static_cast<float>(total);
    m.scale = -16.0f * unit;
    if (values_.high > 0 && length > 0) {
      const float noise = deviations * values_.high_error * length;
      m.part_offset = 1.0f - constant + unit * (values_.high * static_cast<float>(total) - noise);
      m.part_scale = -0.25f * unit * values_.high;
    }
  }
  return {m, Sum::dot};
}

Codec::Prepared Codec::dot_query(const float* vector, std::vector<std::int8_t>& buffer) const {
  buffer.resize(width_);
  std::memset(buffer.data() + dim_, 0, width_ - dim_);
  const float largest = kernels_.largest(vector, dim_);
  const float unit = largest > 0 ? largest / 127.0f : 1.0f;
  kernels_.quantise(vector, nullptr, 127.0f / std::max(largest, 1e-37f), most_of_byte, dim_, buffer.data());
  const float constant =
      metric_ == Metric::inner_product ? 0.0f : kernels_.dot(vector, values_.mean.data(), dim_);
  const float length = std::sqrt(kernels_.dot(vector, vector, dim_)) / unit;
  return finish_dot(buffer.data(), unit * values_.step, constant, length);
}

Codec::Prepared Codec::l2_query(const float* vector, std::vector<std::int8_t>& buffer) const {
  buffer.resize(width_);
  std::memset(buffer.data(), 0, width_);
  kernels_.quantise(vector, values_.mean.data(), 1.0f / values_.step, values_.most, dim_, buffer.data());
  if (form_ == Form::u4) {
    // 16 u lies 120 above v. Beyond 0..255 no byte goes; codes end there as well.
    for (std::size_t i = 0; i < dim_; ++i) {
      const int shifted = std::max(0, buffer[i] + 120);
      buffer[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(shifted));
    }
  }
  Measure m{};
  m.query = buffer.data();
  m.n = width_;
  m.offset = 0;
  m.scale = values_.step * values_.step;
  return {m, Sum::l2};
}

Codec::Prepared Codec::query(const float* vector, std::vector<std::int8_t>& buffer) const {
  return metric_ == Metric::l2 ? l2_query(vector, buffer) : dot_query(vector, buffer);
}

Codec::Prepared Codec::between(const std::byte* code, std::vector<std::int8_t>& buffer) const {
  const auto* bytes = reinterpret_cast<const std::int8_t*>(code);
  const auto unpack = [&](unsigned shift) { // 16 u - shift, 0 in the padding
    buffer.resize(width_);
    auto* out = reinterpret_cast<std::uint8_t*>(buffer.data());
    kernels_.unpack(code, width_, out);
    if (shift != 0) {
      for (std::size_t i = 0; i < width_; ++i) out[i] = static_cast<std::uint8_t>(out[i] - shift);
    }
    std::memset(out + dim_, 0, width_ - dim_);
  };
  if (metric_ == Metric::inner_product) {
    if (form_ == Form::u4) {
      unpack(120);
      bytes = buffer.data();
    }
    return finish_dot(bytes, values_.step * values_.step, 0.0f, 0.0f);
  }
  if (form_ == Form::u4) {
    unpack(0);
    bytes = buffer.data();
  }
  Measure m{};
  m.query = bytes;
  m.n = width_;
  m.offset = 0;
  // Of unit vectors: 1 - cos = |a - b|^2 / 2, and the mean cancels.
  m.scale = values_.step * values_.step * (metric_ == Metric::cosine ? 0.5f : 1.0f);
  return {m, Sum::l2};
}

} // namespace embedcore::hnsw
