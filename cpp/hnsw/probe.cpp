// Which kernel, which rows, and the two constants that make its sum a distance.
#include "hnsw/probe.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace embedcore::hnsw {

namespace {

constexpr std::size_t most_lines = 16;
constexpr std::size_t float_lines = 2;
constexpr std::size_t lines_alone = 24;

constexpr float deviations = 2.5f; // of the error of a measured distance, in doubt()
constexpr float of_a_step = 0.29f; // rounding to a grid is off by the root of 1/12 of its step, on average

constexpr std::size_t padded(std::size_t dim) { return (dim + 63) / 64 * 64; }

Scales scales_of(const Space& space, const std::byte* row) {
  Scales scales{};
  std::memcpy(&scales, row + padded(space.dim), sizeof(scales));
  return scales;
}

} // namespace

void Probe::use(const Space& space, Form form, Sum sum) {
  kernel_ = space.kernels->measure[static_cast<std::size_t>(form)][static_cast<std::size_t>(sum)];
  descend_ = space.kernels->descend[static_cast<std::size_t>(form)][static_cast<std::size_t>(sum)];
  walk_ = space.kernels->walk[static_cast<std::size_t>(form)][static_cast<std::size_t>(sum)];
  const bool code = form == Form::i8 || form == Form::i7 || form == Form::u4;
  lines_alone_ = std::min(row_lines_, lines_alone);
  const std::size_t lines = row_lines_;
  row_lines_ = std::min(lines, code ? most_lines : float_lines);
  later_lines_ = code ? 0 : lines - row_lines_;
}

void Probe::over(const Storage::Rows& rows) {
  measure_.rows = rows.base;
  measure_.stride = rows.stride;
  row_lines_ = (rows.bytes + 63) / 64;
}

void Probe::scales_behind_rows(const Space& space, const Storage::Rows& rows, bool terms) {
  const std::byte* scales = rows.base + padded(space.dim);
  measure_.factors = scales + offsetof(Scales, factor);
  measure_.factor_stride = rows.stride;
  if (terms) measure_.terms = scales + offsetof(Scales, term);
}

Probe Probe::exact(const Space& space, const float* vector) {
  Probe p;
  const Storage::Rows rows = space.storage->originals();
  p.over(rows);
  p.measure_.query = vector;
  p.measure_.n = space.dim;
  if (space.metric == Metric::l2) {
    p.measure_.scale = 1;
    p.use(space, space.original_form, Sum::l2);
    return p;
  }
  p.measure_.offset = 1;
  p.measure_.scale = -1;
  if (space.original_form == Form::s8) {
    p.scales_behind_rows(space, rows, false);
  } else if (space.metric == Metric::cosine) {
    p.measure_.factors = reinterpret_cast<const std::byte*>(&space.storage->node(0).inverse_norm);
    p.measure_.factor_stride = sizeof(Node);
  }
  p.use(space, space.original_form, Sum::dot);
  return p;
}

// Errors of the dimensions are independent, so their sum over a product grows with the other factor's length.
void Probe::doubt_codes(const Space& space, const Codec& codec, const float* vector) {
  const float error = codec.values().error;
  if (space.metric == Metric::l2) { // both sides are rounded, which also makes distances longer
    doubt_ = 2 * static_cast<float>(space.dim) * error * error;
    doubt_by_root_ = deviations * 2 * std::sqrt(2.0f) * error;
    return;
  }
  const float length =
      space.metric == Metric::cosine ? 1.0f : std::sqrt(space.kernels->dot(vector, vector, space.dim));
  const float rounding = of_a_step * space.kernels->largest(vector, space.dim) / 127.0f;
  doubt_ = deviations * std::sqrt(error * error * length * length + rounding * rounding * length * length);
}

Probe Probe::walking(const Space& space, const Codec* codec, const float* vector, ProbeBuffer& buffer) {
  if (codec == nullptr && !space.lean) return exact(space, vector);
  Probe p;
  const Storage::Rows rows = space.storage->rows();
  if (codec != nullptr) {
    const Codec::Prepared prepared = codec->query(vector, buffer.bytes);
    p.measure_ = prepared.measure;
    p.over(rows);
    p.use(space, codec->form(), prepared.sum);
    p.doubt_codes(space, *codec, vector);
    return p;
  }
  const std::size_t width = padded(space.dim);
  buffer.bytes.resize(width);
  std::memset(buffer.bytes.data() + space.dim, 0, width - space.dim);
  const float largest = std::max(space.kernels->largest(vector, space.dim), 1e-37f);
  space.kernels->quantise(vector, nullptr, 127.0f / largest, 127, space.dim, buffer.bytes.data());
  p.over(rows);
  p.measure_.query = buffer.bytes.data();
  p.measure_.n = width;
  p.measure_.offset = 1;
  p.measure_.scale = -largest / 127.0f;
  // What is stored is taken as it is; the query is rounded.
  p.doubt_ = deviations * of_a_step * largest / 127.0f;
  if (space.metric != Metric::cosine) p.doubt_ *= std::sqrt(space.kernels->dot(vector, vector, space.dim));
  if (space.metric == Metric::l2) { // |q|^2 - 2 q x + |x|^2
    p.measure_.offset = space.kernels->dot(vector, vector, space.dim);
    p.measure_.scale *= 2;
    p.doubt_ *= 2;
  }
  p.scales_behind_rows(space, rows, space.metric == Metric::l2);
  p.use(space, Form::i8, Sum::dot);
  return p;
}

Probe Probe::between(const Space& space, Slot slot, ProbeBuffer& buffer) {
  const Storage& storage = *space.storage;
  const Codec* codec = space.codec.load(std::memory_order_acquire);
  if (codec != nullptr) {
    Probe p;
    const Codec::Prepared prepared = codec->between(storage.code(slot), buffer.bytes);
    p.measure_ = prepared.measure;
    p.over(storage.rows());
    p.use(space, codec->form(), prepared.sum);
    return p;
  }
  if (space.lean) {
    Probe p;
    const Storage::Rows rows = storage.rows();
    const Scales own = scales_of(space, storage.row(slot));
    p.over(rows);
    p.measure_.query = storage.row(slot);
    p.measure_.n = padded(space.dim);
    p.measure_.offset = space.metric == Metric::l2 ? own.term : 1.0f;
    p.measure_.scale = space.metric == Metric::l2 ? -2 * own.factor : -own.factor;
    p.scales_behind_rows(space, rows, space.metric == Metric::l2);
    p.use(space, Form::i8, Sum::dot);
    return p;
  }
  const float* vector = reinterpret_cast<const float*>(storage.original(slot));
  if (space.original_form != Form::f32) {
    buffer.floats.resize(space.dim);
    storage.load_original(slot, buffer.floats.data());
    vector = buffer.floats.data();
  }
  Probe p = exact(space, vector);
  if (space.metric == Metric::cosine) p.measure_.scale = -storage.node(slot).inverse_norm;
  return p;
}

const float* unit_length(const Space& space, const float* vector, std::vector<float>& buffer) {
  if (space.metric != Metric::cosine) return vector;
  const float squared = space.kernels->dot(vector, vector, space.dim);
  // A sum of squares may have lost its small terms where the vector is tiny.
  const bool plain = squared > 1e-20f && squared < 1e20f;
  const float inverse = plain ? 1.0f / std::sqrt(squared) : inverse_norm(vector, space.dim);
  buffer.resize(space.dim);
  for (std::size_t i = 0; i < space.dim; ++i) buffer[i] = vector[i] * inverse;
  return buffer.data();
}

} // namespace embedcore::hnsw
