// Refusing bad input before anything changes.
#pragma once

#include <cstdint>
#include <span>

#include "hnsw/index.h"

namespace embedcore::hnsw {

// Dimension, m, ef_construction within their ranges.
Status check_config(const Config& config);
// The codes that config asks for, with automatic settled: int4 from 384 dimensions on, int8 below and for
// inner product, none where an original is no longer than a cache line or is made of bytes itself.
Codes settled_codes(const Config& config);
// Not negative, none twice.
Status check_ids(std::span<const std::int64_t> ids);
// Every value finite, every squared norm within float32, none zero under cosine. rows: (n, dim). noun says
// what a row is in the message, e.g. "query"; first is the number of the first.
Status check_vectors(const Config& config, const float* rows, std::size_t n, const char* noun,
                     std::size_t first = 0);
// Beside that, what the dtype cannot hold: values beyond float16, and under cosine vectors that it rounds to
// zero. Pre-condition: check_vectors.
Status check_fits(const Config& config, const float* rows, std::size_t n);

} // namespace embedcore::hnsw
