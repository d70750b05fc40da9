// Snapshots of format versions 1 and 2, which are read and no longer written (snapshot.h has version 3).
// Little-endian throughout.
//
//   offset  bytes  header
//        0      8  magic "EMBCHNSW"
//        8      4  format version, 2
//       12      4  header bytes H, a multiple of 4096 (so that the vectors can be mapped one day)
//       16      8  bytes of the whole file: a truncated or extended file shows at once
//       24      4  dim
//       28      1  metric: 0 cosine, 1 inner product, 2 squared L2
//       29      1  dtype of the vectors: 0 float32, 1 float16, 2 bfloat16, 3 int8
//       30      1  codes: 0 none, 1 int8, 2 int4
//       31      1  zero
//       32      4  m
//       36      4  ef_construction
//       40      8  seed: with it later inserts draw the levels that they would have drawn
//       48      8  watermark: every write up to this sequence number is in the file
//       56      8  live items
//       64      8  slots S
//       72      8  runs R of upper links
//       80      4  entry slot, 2^32-1 for none
//       84      4  entry level
//       88      4  CRC32C of the vector checksums
//       92      4  CRC32C of the nodes
//       96      4  CRC32C of the base links
//      100      4  CRC32C of the upper links
//      104      4  fingerprint bytes F, at most 65,535
//      108      4  step of the codes' grid (f32)
//      112      8  items that the codes were trained on; 0: not trained, or no codes
//      120      4  error of the codes (f32)
//      124      4  CRC32C of the mean
//      128      4  what the highest bit of a code stands for (f32), int4 only
//      132      4  and what it leaves out (f32)
//      136      4  exponent of the early stop (f32); 0: none
//      140      4  zero
//      144      F  fingerprint of the vector space, UTF-8
//             ...  zeros
//      H-4      4  CRC32C of the H-4 bytes before
//
//   then, without gaps
//   vectors           S x bytes     as kept (see originals.h: 4 dim, 2 dim, or dim to the next 64 and 12);
//                                   zeros in slots that hold no node of the graph
//   vector checksums  4 each        CRC32C of every 64 KiB of the vectors (the last piece may be shorter)
//   mean              dim x 4       of the codes' grid (f32); only where codes were trained. Codes are made
//                                   from vectors and grid when the file is loaded.
//   nodes             S x 24        id i64, first upper run u32, parent slot u32, 1 / |vector| f32, state u8
//                                   (0 free, 2 live, 3 tombstone, 4 detached), level u8, zero u16
//   base links        S x 2m x 4    slots, 2^32-1 where empty
//   upper links       R x m x 4     a node of level L owns L runs, levels 1 to L; runs in order of slots
//
// Version 1 ended its header fields at byte 108, where the fingerprint followed, and knew float32 without
// codes.
//
// Every byte is under one checksum, so that any damage is found. Integrity, not secrecy or authenticity:
// besides, load refuses any reference that leads out of the file.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "hnsw/snapshot.h"

namespace embedcore::hnsw::snapshot::v2 {

constexpr std::size_t vector_chunk = std::size_t{64} << 10;

struct Header { // bytes 0 to 143; the fingerprint follows
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t file_bytes;
  std::uint32_t dim;
  std::uint8_t metric;
  std::uint8_t dtype;
  std::uint8_t codes;
  std::uint8_t zero;
  std::uint32_t m;
  std::uint32_t ef_construction;
  std::uint64_t seed;
  std::uint64_t watermark;
  std::uint64_t live;
  std::uint64_t slots;
  std::uint64_t runs;
  std::uint32_t entry_slot;
  std::uint32_t entry_level;
  std::uint32_t vector_checksums_crc;
  std::uint32_t nodes_crc;
  std::uint32_t base_links_crc;
  std::uint32_t upper_links_crc;
  std::uint32_t fingerprint_bytes;
  float codes_step;
  std::uint64_t codes_trained_on;
  float codes_error;
  std::uint32_t mean_crc;
  float codes_high;
  float codes_high_error;
  float stop_exponent;
  std::uint32_t zeros;
};
constexpr std::size_t header_fields = 144;
constexpr std::size_t header_fields_v1 = 108;
static_assert(sizeof(Header) == header_fields, "no padding inside the header");
static_assert(offsetof(Header, codes_step) == header_fields_v1, "version 1 is a prefix");

struct NodeRecord {
  std::int64_t id;
  std::uint32_t upper;
  std::uint32_t parent;
  float inverse_norm;
  std::uint8_t state;
  std::uint8_t level;
  std::uint16_t zero;
};
static_assert(sizeof(NodeRecord) == 24, "no padding inside a record");

[[nodiscard]] inline std::size_t header_bytes(std::size_t fingerprint) {
  return (header_fields + fingerprint + 4 + page - 1) / page * page;
}
[[nodiscard]] inline std::size_t row_bytes(const Header& h) {
  Config config;
  config.dim = h.dim;
  config.dtype = static_cast<Dtype>(h.dtype);
  return Originals(config).bytes();
}
[[nodiscard]] inline std::uint64_t vector_bytes(const Header& h) { return h.slots * row_bytes(h); }
[[nodiscard]] inline std::uint64_t mean_bytes(const Header& h) {
  return h.codes_trained_on == 0 ? 0 : h.dim * sizeof(float);
}
[[nodiscard]] inline std::uint64_t vector_chunks(const Header& h) {
  return (vector_bytes(h) + vector_chunk - 1) / vector_chunk;
}
// Pre-condition: slots, dim, m and runs within the limits of an index, so that nothing overflows.
[[nodiscard]] inline std::uint64_t file_bytes(const Header& h) {
  return h.header_bytes + vector_bytes(h) + 4 * vector_chunks(h) + mean_bytes(h) +
         h.slots * sizeof(NodeRecord) + h.slots * 2 * h.m * sizeof(Slot) + h.runs * h.m * sizeof(Slot);
}

} // namespace embedcore::hnsw::snapshot::v2
