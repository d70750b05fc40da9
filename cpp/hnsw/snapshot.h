// The snapshot of an index: format versions 3 to 7. Little-endian throughout. Sections lie in the file as
// they do in memory, so that a load can map them instead of reading them.
//
// clang-format off: it would flow the tables together
//   offset  bytes  header                                                       why
//        0      8  magic "EMBCHNSW"                                             tells it from other files
//        8      4  format version: 3, with limits 5, with a floor of the stop 6,  which table to read by
//                  with int8 codes of 7 bits 7
//       12      4  header bytes H, a multiple of 4096                           the fingerprint has no fixed length
//       16      8  bytes of the whole file                                      truncation shows before anything
//       24      4  dim
//       28      1  metric: 0 cosine, 1 inner product, 2 squared L2
//       29      1  dtype of the vectors: 0 float32, 1 float16, 2 bfloat16, 3 int8
//       30      1  codes: 0 none, 1 int8, 2 int4
//       31      1  zero
//       32      4  m
//       36      4  ef_construction
//       40      8  seed                                                         later inserts draw the same levels
//       48      8  watermark: every write up to this sequence number is in      where replay begins
//       56      8  live items                                                   against the nodes
//       64      8  slots S
//       72      8  runs R of upper links
//       80      4  entry slot, 2^32-1 for none
//       84      4  entry level
//       88      4  bytes B of a block                                           what this build maps must be alike
//       92      4  bytes O of an original beside the block; 0: it is in it
//       96      4  CRC32C of the checksums section, its padding included
//      100      4  fingerprint bytes F, at most 65,535
//      104      8  items that the codes were trained on; 0: not trained, or no codes
//      112      4  step of the codes' grid (f32)
//      116      4  error of the codes (f32)
//      120      4  what the highest bit of a code stands for (f32), int4 only
//      124      4  and what it leaves out (f32)
//      128      4  exponent of the early stop (f32); 0: none
//      132      4  limits of partial distances L (from version 5 on), else 0;   searches give rows up early (glance.h)
//                  only where there are no codes
//      136      4  floor of the early stop (f32), from version 6 on             dense places (calibrate.cpp)
//      140      4  63, the largest value of an int8 code, version 7 only;      half the instructions (codec.h)
//                  127 before
//      144      F  fingerprint of the vector space, UTF-8                       a file of another space is refused
//                  at 140 in version 6, at 136 before
//             ...  zeros
//      H-4      4  CRC32C of the H-4 bytes before
//
//   then, each from a multiple of 4096 on (a page, so that it can be mapped), with zeros before the next one:
//   nodes        S x 32        as in memory: id i64, zero u64, first upper run u32, parent u32, 1 / |vector| f32,
//                              state u8 (0 free, 2 live, 3 tombstone, 4 detached), level u8, zero u16;
//                              free and detached ones have no id, no level and the parent 2^32-1
//   upper links  R x m x 4     a node of level L owns L runs, levels 1 to L; runs in order of slots. A link is a
//                              slot, or 2^32-1 where empty
//   blocks       S x B         2m links of level 0, those of the tree (tree.h) with the top bit set; 2^32-1 up to
//                              a multiple of 64 bytes; then what walks read, the code, or the original where
//                              there are no codes; zeros up to a multiple of 64 bytes
//   originals    S x O         as kept (originals.h), where there are codes in the blocks
//   mean         dim x 4       of the codes' grid (f32), where they were trained; or
//   limits       L x 24        PartLimit of glance.h (6 x f32) after each part of a row but the last. Version 4 had
//                              5 x f32, without the floor: a load makes no use of those
//   checksums    4 each        CRC32C of every 64 KiB of the sections in this order, the zeros after each
//                              included; then of the links of every 1,024 blocks (what fills them included),
//                              which a load checks at once, while codes and vectors can wait
// clang-format on
//
// Codes are in the file, not made anew from the vectors: that took seconds a million. Vectors, codes and
// links of slots that hold no node of the graph are zero, zero and empty. Every byte is under a checksum,
// padding included, and padding must be zero besides.
//
// Integrity, not secrecy or authenticity: load refuses any reference that leads out of the graph, so a file
// that was made to mislead can give wrong answers, but leads no search out of memory.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "hnsw/glance.h"
#include "hnsw/storage.h"

namespace embedcore::hnsw::snapshot {

static_assert(std::endian::native == std::endian::little, "sections are written as they lie in memory");

constexpr std::array<char, 8> magic = {'E', 'M', 'B', 'C', 'H', 'N', 'S', 'W'};
constexpr std::uint32_t version = 7;
constexpr std::uint32_t version_of_bytes = 6; // int8 codes use all values of a byte
constexpr std::uint32_t version_without_stop_floor = 5;
constexpr std::uint32_t version_without_floors = 4;
constexpr std::uint32_t version_without_limits = 3;
constexpr std::size_t page = 4096;
constexpr std::size_t chunk = std::size_t{64} << 10;
constexpr std::size_t link_group = 1024; // blocks
constexpr std::size_t most_fingerprint = 65535;

struct Header { // the fingerprint follows
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
  std::uint32_t block_bytes;
  std::uint32_t original_bytes;
  std::uint32_t checksums_crc;
  std::uint32_t fingerprint_bytes;
  std::uint64_t codes_trained_on;
  float codes_step;
  float codes_error;
  float codes_high;
  float codes_high_error;
  float stop_exponent;
  std::uint32_t part_limits;
  float stop_floor;         // from version 6 on
  std::uint32_t codes_most; // from version 7 on
};
static_assert(sizeof(Header) == 144, "no padding inside the header");

// Bytes of a header before the fingerprint.
[[nodiscard]] constexpr std::size_t header_fields(std::uint32_t of_version) {
  if (of_version <= version_without_stop_floor) return offsetof(Header, stop_floor);
  return of_version <= version_of_bytes ? offsetof(Header, codes_most) : sizeof(Header);
}

struct NodeRecord {
  std::int64_t id;
  std::uint64_t died;
  std::uint32_t upper;
  std::uint32_t parent;
  float inverse_norm;
  std::uint8_t state;
  std::uint8_t level;
  std::uint16_t zero;
};
static_assert(sizeof(NodeRecord) == sizeof(Node) && offsetof(NodeRecord, parent) == offsetof(Node, parent) &&
                  offsetof(NodeRecord, inverse_norm) == offsetof(Node, inverse_norm) &&
                  offsetof(NodeRecord, level) == offsetof(Node, level),
              "nodes are mapped");

// Of one limit.
[[nodiscard]] constexpr std::size_t limit_bytes(std::uint32_t of_version) {
  return of_version == version_without_floors ? offsetof(PartLimit, floor) : sizeof(PartLimit);
}

enum Part : std::size_t { nodes, upper, blocks, originals, mean, parts };
constexpr std::array<const char*, parts> part_names = {"nodes", "upper links", "links and codes", "vectors",
                                                       "mean"};

[[nodiscard]] constexpr std::uint64_t whole_pages(std::uint64_t bytes) {
  return (bytes + page - 1) / page * page;
}
[[nodiscard]] constexpr std::size_t header_bytes(std::uint32_t of_version, std::size_t fingerprint) {
  return static_cast<std::size_t>(whole_pages(header_fields(of_version) + fingerprint + 4));
}

struct Section {
  std::uint64_t at = 0;
  std::uint64_t used = 0;  // bytes
  std::uint64_t bytes = 0; // with the zeros that follow; all of them are under its checksums
  std::uint64_t first = 0; // of its checksums

  [[nodiscard]] std::uint64_t chunks() const { return (bytes + chunk - 1) / chunk; }
};

// Where everything is; follows from the header.
struct Layout {
  std::array<Section, parts> sections;
  std::uint64_t first_link_checksum = 0;
  std::uint64_t link_checksums = 0;
  Section checksums;
  std::uint64_t file_bytes = 0;

  // Pre-condition: slots, dim, m and runs within the limits of an index, so that nothing overflows.
  explicit Layout(const Header& h) {
    const std::array<std::uint64_t, parts> used = {
        h.slots * sizeof(NodeRecord), h.runs * h.m * sizeof(Slot), h.slots * h.block_bytes,
        h.slots * h.original_bytes,
        h.codes_trained_on == 0 ? h.part_limits * limit_bytes(h.version) : h.dim * sizeof(float)};
    std::uint64_t at = h.header_bytes;
    std::uint64_t checksum = 0;
    for (std::size_t i = 0; i < parts; ++i) {
      sections[i] = {at, used[i], whole_pages(used[i]), checksum};
      at += sections[i].bytes;
      checksum += sections[i].chunks();
    }
    first_link_checksum = checksum;
    link_checksums = (h.slots + link_group - 1) / link_group;
    const std::uint64_t bytes = (checksum + link_checksums) * sizeof(std::uint32_t);
    checksums = {at, bytes, whole_pages(bytes), 0};
    file_bytes = at + checksums.bytes;
  }
};

} // namespace embedcore::hnsw::snapshot
