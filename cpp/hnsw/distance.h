// From a kernel's sum to the distance of the metric: 1 - cos, 1 - dot, or squared L2.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "hnsw/index.h"
#include "hnsw/kernels.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw {

// 1 / |v|; summed in double, so that it is the same on every instruction set.
[[nodiscard]] inline float inverse_norm(const float* v, std::size_t dim) {
  double partial[4] = {};
  for (std::size_t i = 0; i < dim; ++i)
    partial[i % 4] += static_cast<double>(v[i]) * static_cast<double>(v[i]);
  const double sum = (partial[0] + partial[1]) + (partial[2] + partial[3]);
  return sum > 0 ? static_cast<float>(1.0 / std::sqrt(sum)) : 0.0f;
}

// What a distance needs to know of its index.
struct Space {
  const Storage* storage;
  std::size_t dim;
  Metric metric;
  Kernel kernel; // dot, or l2
};

// Distances from one vector. Under cosine the vector is scaled to unit length first, into a buffer of the
// caller's, which must outlive the query.
class Query {
 public:
  Query(const Space& space, const float* vector, float inverse, std::vector<float>& buffer)
      : space_(space), vector_(vector) {
    if (space.metric != Metric::cosine) return;
    buffer.resize(space.dim);
    for (std::size_t i = 0; i < space.dim; ++i) buffer[i] = vector[i] * inverse;
    vector_ = buffer.data();
  }

  [[nodiscard]] float to(Slot slot) const {
    const float sum = space_.kernel(vector_, space_.storage->vector(slot), space_.dim);
    switch (space_.metric) {
      case Metric::cosine:
        return 1.0f - sum * space_.storage->node(slot).inverse_norm;
      case Metric::inner_product:
        return 1.0f - sum;
      case Metric::l2:
        break;
    }
    return sum;
  }

 private:
  const Space& space_;
  const float* vector_;
};

} // namespace embedcore::hnsw
