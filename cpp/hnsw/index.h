// The index as everything above it sees it: ids and vectors in, ids and distances out. Slot numbers
// never leave this folder, so storage may move, reuse and free slots behind this interface.
//
// Thread safety: any number of threads may call any members at once. search, scores, get, contains
// take no lock; add and remove of different items run in parallel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"

namespace embedcore::hnsw {

enum class Metric : std::uint8_t { cosine = 0, inner_product = 1, l2 = 2 };
// How vectors are kept: what get() returns and final distances are computed on (originals.h).
enum class Dtype : std::uint8_t { float32 = 0, float16, bfloat16, int8 };
// What the graph walk reads (codec.h). none: the originals. automatic is settled when the index is made.
enum class Codes : std::uint8_t { none = 0, int8, int4, automatic };

struct Config {
  std::uint32_t dim = 0; // 1 to 65,535
  Metric metric = Metric::cosine;
  std::uint32_t m = 16; // links per node above level 0; twice that on level 0
  std::uint32_t ef_construction = 200;
  std::uint64_t seed = 0;   // level of a node = hash(seed, id)
  std::size_t capacity = 0; // a hint; nothing has to be declared
  Dtype dtype = Dtype::float32;
  Codes codes = Codes::none;
};

// Which ids a search may return. Called concurrently, without locks, from the searching thread.
class IdFilter {
 public:
  virtual ~IdFilter() = default;
  [[nodiscard]] virtual bool allows(std::int64_t id) const = 0;
  // The allowed ids, ascending and each once, where they are known: a search scores them one by one when
  // that is cheaper than a walk. Empty: not known.
  [[nodiscard]] virtual std::span<const std::int64_t> listed() const { return {}; }
  // Polled once per hop; true ends the search with what it has, e.g. after an error in a callback.
  [[nodiscard]] virtual bool cancelled() const { return false; }
};

struct SearchStats {
  std::uint64_t hops = 0;        // nodes expanded
  std::uint64_t distances = 0;   // distances computed
  std::uint64_t nanoseconds = 0; // of wall time; for queries of search_many that of their group
};

// Identity of what a snapshot holds, kept in its header.
struct Tag {
  std::string fingerprint;     // of the vector space; empty for a stand-alone index
  std::uint64_t watermark = 0; // every write up to this sequence number is in the file
};

// How long a call of repair, compact or relocate may go on, and on how many threads.
struct Budget {
  // Polled between small steps, by all of the threads; true ends the call. At least one step is made.
  // Empty: to the end.
  std::function<bool()> spent;
  unsigned threads = 1; // 0: all cores

  static Budget seconds(double time, unsigned threads = 1);
};

struct Report {             // of repair, compact, relocate: of this call
  std::size_t examined = 0; // nodes looked at
  std::size_t changed = 0;  // nodes whose links were rewritten, or that were moved
  std::size_t freed = 0;    // slots given back for reuse, or to the system
  bool done = false;        // nothing was left to do; false: call again
};

struct Stats {
  std::uint64_t codes_trained_on;                     // items there were; 0: walks read the originals so far
  float codes_step, codes_error;                      // see CodecValues
  float stop_exponent;                                // of the early stop (calibrate.cpp); 0: none
  std::size_t original_bytes;                         // resident, where they are kept apart from the blocks
  std::size_t live, tombstones, free, retired, slots; // in slots; retired ones wait for readers to leave
  std::size_t block_bytes, node_bytes, upper_bytes, table_bytes, scratch_bytes, other_bytes; // resident
  bool verified;                   // see Index::verified
  std::vector<std::size_t> levels; // live nodes by top level
  std::size_t degree_min, degree_max;
  double degree_mean;                                                // links on level 0 of live nodes
  std::uint64_t added, replaced, removed, reconnected, freed, moved; // since made or loaded
};

class Index {
 public:
  static Result<std::shared_ptr<Index>> create(const Config& config);
  // mapped: sections of the file are mapped, not read; the first query does not wait for vectors and codes,
  // which are verified on a thread in the background (health). Written pages are copied, the file never
  // changes; it may be replaced or removed, but not be overwritten. Files of older versions are read all the
  // same.
  static Result<std::shared_ptr<Index>> load(const std::string& path, bool mapped = false);
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  [[nodiscard]] const Config& config() const;
  [[nodiscard]] Tag tag() const;
  void set_tag(Tag tag);

  // An id that exists is replaced. vectors: row-major (ids.size(), dim). threads = 0: all cores.
  // keep_going is polled between items with the number done; false cancels (what was added stays).
  // Everything is checked before anything changes.
  Status add(std::span<const std::int64_t> ids, const float* vectors, unsigned threads = 0,
             const std::function<bool(std::size_t)>& keep_going = {});
  std::size_t remove(std::span<const std::int64_t> ids); // how many were present

  // Writes up to k live neighbours, nearest first, and returns how many. ef below k is raised to k.
  // query: dim finite floats (under cosine not all zero; need not be unit length).
  std::size_t search(const float* query, std::size_t k, std::size_t ef, const IdFilter* filter,
                     std::int64_t* ids, float* distances, SearchStats* stats = nullptr) const;
  // The same for n queries (rows of dim floats) into rows of k: faster than one by one, because several walks
  // go on in turn while the others wait for memory. Unused places are -1 and infinity. stats: null, or n.
  void search_many(const float* queries, std::size_t n, std::size_t k, std::size_t ef, const IdFilter* filter,
                   std::int64_t* ids, float* distances, SearchStats* stats = nullptr) const;
  // Everything within radius that a walk of breadth ef reaches, nearest first.
  void range_search(const float* query, float radius, std::size_t ef, const IdFilter* filter,
                    std::vector<std::int64_t>& ids, std::vector<float>& distances) const;
  // Distances of given ids; NaN where absent.
  void scores(const float* query, std::span<const std::int64_t> ids, float* distances) const;

  // The vectors as added, within the dtype. NOT_FOUND names the first unknown id; out is then unspecified.
  Status get(std::span<const std::int64_t> ids, float* out) const;
  [[nodiscard]] bool contains(std::int64_t id) const;
  [[nodiscard]] std::vector<std::int64_t> ids() const; // live, ascending

  [[nodiscard]] std::size_t size() const; // live items
  [[nodiscard]] std::size_t tombstones() const;
  [[nodiscard]] std::size_t memory_bytes() const;

  // Three verbs, all online: reconnect live nodes around tombstones; repair and free the tombstones'
  // slots for reuse; move live nodes from the tail into free slots and return the tail's memory.
  // Incremental: a call that its budget ends is gone on with by the next one, of any of the three (upkeep.h).
  // Searches never wait for them; writers do for well below a millisecond at a time.
  Report repair(const Budget& budget = {});
  Report compact(const Budget& budget = {});
  Report relocate(const Budget& budget = {});
  // All broken invariants, one line each: unreachable live nodes, dangling links, duplicates.
  // Writers wait meanwhile, searches go on.
  [[nodiscard]] std::vector<std::string> check() const;
  // Writers wait meanwhile.
  [[nodiscard]] Stats stats() const;

  // Writes to a temporary file, syncs, renames, syncs the directory. Searches go on; so do writers, which
  // wait for O(slots), some milliseconds a million, at the beginning. The file holds every item whose add had
  // returned before the call, at that version or a later one, and none whose remove had. tag: what the file
  // says; else tag(). Of a mapped index that is not verified yet it waits for that, and fails where damage is
  // found.
  Status save(const std::string& path, const std::optional<Tag>& tag = std::nullopt) const;

  // Whether every byte that was loaded has been checked; false while a mapped file still is being, or is
  // damaged.
  [[nodiscard]] bool verified() const;
  // data_loss, with file and chunk, once damage was found in a mapped file: what the index answers may be
  // wrong from then on, and may have been before. One load.
  [[nodiscard]] Status health() const;
  // Waits until verified or damaged; the same as health() then.
  [[nodiscard]] Status wait_verified() const;

  struct Impl; // the graph and its storage; defined inside this folder

 private:
  friend struct IndexTestPeer; // defined by tests only, to plant damage
  explicit Index(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

} // namespace embedcore::hnsw
