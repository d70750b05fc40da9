// Refusing bad input before anything changes.
#pragma once

#include <cstdint>
#include <span>

#include "hnsw/index.h"

namespace embedcore::hnsw {

// Dimension, m, ef_construction within their ranges.
Status check_config(const Config& config);
// Not negative, none twice.
Status check_ids(std::span<const std::int64_t> ids);
// Every value finite, every squared norm within float32, none zero under cosine. rows: (n, dim). noun says
// what a row is in the message, e.g. "query".
Status check_vectors(const Config& config, const float* rows, std::size_t n, const char* noun);

} // namespace embedcore::hnsw
