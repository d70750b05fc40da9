// Loading format versions 1 and 2, from the first byte to the last (snapshot_v2.h). Codes are made anew.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/crc32c.h"
#include "hnsw/impl.h"
#include "hnsw/snapshot_load.h"
#include "hnsw/snapshot_v2.h"
#include "hnsw/validate.h"

namespace embedcore::hnsw {

namespace {

// Sequential reading of a file.
class Reader {
 public:
  explicit Reader(const SnapshotFile& file, std::uint64_t size) : file_(file), size_(size) {}

  [[nodiscard]] bool read(void* to, std::size_t n) {
    auto* out = static_cast<std::byte*>(to);
    while (n != 0) {
      if (at_ == filled_ && !fill()) return false;
      const std::size_t part = std::min(n, filled_ - at_);
      std::memcpy(out, buffer_.data() + at_, part);
      at_ += part;
      out += part;
      n -= part;
    }
    return true;
  }

 private:
  bool fill() {
    at_ = 0;
    filled_ = static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), size_ - offset_));
    if (filled_ == 0 || !file_.read(offset_, buffer_.data(), filled_)) return filled_ = 0, false;
    offset_ += filled_;
    return true;
  }

  const SnapshotFile& file_;
  const std::uint64_t size_;
  std::uint64_t offset_ = 0;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(std::size_t{1} << 18);
  std::size_t at_ = 0;
  std::size_t filled_ = 0;
};

class Loader {
 public:
  explicit Loader(const Snapshot& snapshot) : snapshot_(snapshot), file_(snapshot.file, snapshot.size) {}

  Status header() {
    std::vector<char> bytes(16);
    if (snapshot_.size < snapshot::page || !file_.read(bytes.data(), bytes.size()))
      return damaged("is too short");
    std::memcpy(&header_, bytes.data(), bytes.size());
    if (header_.magic != snapshot::magic) return damaged("is not a snapshot of an embedcore index");
    const std::size_t length = header_.header_bytes;
    if (length % snapshot::page != 0 || length < snapshot::page || length > snapshot_.size ||
        length > snapshot::v2::header_bytes(snapshot::most_fingerprint)) {
      return damaged("has a damaged header");
    }
    bytes.resize(length);
    if (!file_.read(bytes.data() + 16, length - 16)) return damaged("is too short");
    std::uint32_t crc = 0;
    std::memcpy(&crc, bytes.data() + length - sizeof(crc), sizeof(crc));
    if (crc32c(bytes.data(), length - sizeof(crc)) != crc) return damaged("has a damaged header");
    fields_ = header_.version == 1 ? snapshot::v2::header_fields_v1 : snapshot::v2::header_fields;
    std::memcpy(&header_, bytes.data(), fields_);
    const bool known = header_.version == 1 ? header_.dtype == 0 && header_.codes == 0
                                            : header_.dtype <= 3 && header_.codes <= 2;
    const bool trained = header_.codes_trained_on != 0;
    if (header_.metric > 2 || !known || header_.zero != 0 ||
        !(header_.stop_exponent >= 0 && header_.stop_exponent < 16) ||
        (trained && (header_.codes == 0 || !(header_.codes_step > 0) || std::isinf(header_.codes_step))) ||
        header_.slots >= no_slot / 2 || header_.runs >= no_slot ||
        header_.fingerprint_bytes > most_fingerprint(length)) {
      return damaged("has a header that no index has");
    }
    tag_.fingerprint.assign(bytes.data() + fields_, header_.fingerprint_bytes);
    tag_.watermark = header_.watermark;
    config_.dim = header_.dim;
    config_.metric = static_cast<Metric>(header_.metric);
    config_.dtype = static_cast<Dtype>(header_.dtype);
    config_.codes = static_cast<Codes>(header_.codes);
    config_.m = header_.m;
    config_.ef_construction = header_.ef_construction;
    config_.seed = header_.seed;
    config_.capacity = header_.slots;
    if (!check_config(config_).ok() || settled_codes(config_) != config_.codes)
      return damaged("has a header that no index has");
    if (header_.file_bytes != snapshot_.size || snapshot::v2::file_bytes(header_) != snapshot_.size) {
      return damaged("has " + std::to_string(snapshot_.size) + " bytes, its header says " +
                     std::to_string(header_.file_bytes));
    }
    return {};
  }

  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] const Tag& tag() const { return tag_; }

  Status sections(Index::Impl& x) {
    const auto end = static_cast<Slot>(header_.slots);
    if (Status s = x.storage.restore(end, static_cast<std::uint32_t>(header_.runs)); !s.ok()) return s;
    if (Status s = vectors(x.storage); !s.ok()) return s;
    CodecValues codes;
    if (Status s = mean(codes); !s.ok()) return s;
    if (Status s = nodes(x.storage); !s.ok()) return s;
    if (Status s = links(x.storage); !s.ok()) return s;
    if (Status s = wire(x); !s.ok()) return s;
    if (header_.codes_trained_on != 0) x.install(std::move(codes));
    x.stop_exponent.store(header_.stop_exponent);
    x.calibrated_on.store(header_.live);
    return {};
  }

 private:
  [[nodiscard]] std::size_t most_fingerprint(std::size_t length) const { return length - fields_ - 4; }

  [[nodiscard]] Error damaged(const std::string& what) const { return hnsw::damaged(snapshot_, what); }

  Status vectors(Storage& storage) {
    // Whole rows are copied out of chunks; a row may lie across two.
    std::vector<std::uint32_t> computed;
    std::vector<std::byte> chunk(snapshot::v2::vector_chunk);
    const std::size_t row = snapshot::v2::row_bytes(header_);
    std::uint64_t left = snapshot::v2::vector_bytes(header_);
    Slot slot = 0;
    std::size_t filled = 0; // of the row of slot
    while (left != 0) {
      const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(left, chunk.size()));
      if (!file_.read(chunk.data(), n)) return damaged("cannot be read to its end");
      computed.push_back(crc32c(chunk.data(), n));
      left -= n;
      for (std::size_t at = 0; at < n;) {
        const std::size_t part = std::min(row - filled, n - at);
        std::memcpy(storage.original(slot) + filled, chunk.data() + at, part);
        at += part;
        filled += part;
        if (filled == row) {
          filled = 0;
          ++slot;
        }
      }
    }
    std::vector<std::uint32_t> stored(computed.size());
    if (!file_.read(stored.data(), stored.size() * sizeof(std::uint32_t)))
      return damaged("cannot be read to its end");
    if (crc32c(stored.data(), stored.size() * sizeof(std::uint32_t)) != header_.vector_checksums_crc) {
      return damaged("has damaged vector checksums");
    }
    for (std::size_t i = 0; i < stored.size(); ++i) {
      if (stored[i] == computed[i]) continue;
      return damaged("has damaged vectors in chunk " + std::to_string(i) + " of " +
                     std::to_string(stored.size()));
    }
    return {};
  }

  Status mean(CodecValues& values) {
    values.mean.resize(header_.codes_trained_on == 0 ? 0 : header_.dim);
    values.step = header_.codes_step;
    values.error = header_.codes_error;
    values.high = header_.codes_high;
    values.high_error = header_.codes_high_error;
    values.trained_on = header_.codes_trained_on;
    const std::size_t bytes = values.mean.size() * sizeof(float);
    if (!file_.read(values.mean.data(), bytes)) return damaged("cannot be read to its end");
    if (header_.version > 1 && crc32c(values.mean.data(), bytes) != header_.mean_crc)
      return damaged("has a damaged mean of its codes");
    for (const float x : values.mean) {
      if (!std::isfinite(x)) return damaged("has codes that no index has");
    }
    return {};
  }

  Status nodes(Storage& storage) {
    std::uint32_t crc = 0;
    std::uint64_t runs = 0;
    bool sound = true;
    for (Slot slot = 0; slot < header_.slots; ++slot) {
      snapshot::v2::NodeRecord record{};
      if (!file_.read(&record, sizeof(record))) return damaged("cannot be read to its end");
      crc = crc32c(&record, sizeof(record), crc);
      const auto state = static_cast<State>(record.state);
      const bool in_graph = state == State::live || state == State::tombstone;
      sound = sound && (in_graph || state == State::free || state == State::detached);
      sound = sound && record.id >= 0 && record.level <= (in_graph ? max_level : 0);
      if (!sound) continue; // the checksum decides what to say
      Node& node = storage.node(slot);
      node.id = record.id;
      node.upper = static_cast<std::uint32_t>(runs);
      node.level = record.level;
      node.inverse_norm = record.inverse_norm;
      node.died = 0;
      storage.set_parent(slot, record.parent);
      storage.set_state(slot, state);
      runs += record.level;
      sound = record.level == 0 || (record.upper == node.upper && runs <= header_.runs);
    }
    if (crc != header_.nodes_crc) return damaged("has damaged nodes");
    return sound && runs == header_.runs ? Status{} : Status(damaged("has nodes that no index has"));
  }

  Status links(Storage& storage) {
    std::uint32_t crc = 0;
    for (Slot slot = 0; slot < header_.slots; ++slot) {
      storage.clear_links(slot); // what fills the last line of level 0 is not in the file
      if (!read_links(storage.links(slot, 0), crc)) return damaged("cannot be read to its end");
    }
    if (crc != header_.base_links_crc) return damaged("has damaged base links");
    crc = 0;
    for (Slot slot = 0; slot < header_.slots; ++slot) {
      for (std::uint32_t level = 1; level <= storage.node(slot).level; ++level) {
        if (!read_links(storage.links(slot, level), crc)) return damaged("cannot be read to its end");
      }
    }
    return crc == header_.upper_links_crc ? Status{} : Status(damaged("has damaged upper links"));
  }

  bool read_links(Links links, std::uint32_t& crc) {
    const std::size_t bytes = links.count * sizeof(Slot);
    if (!file_.read(links.at, bytes)) return false;
    crc = crc32c(links.at, bytes, crc);
    return true;
  }

  // Marks the links between slot and its parent; the file does not. False: there are none.
  static bool protect(const Storage& storage, Slot slot) {
    const Slot parent = storage.parent(slot);
    if (parent == no_slot) return true;
    for (const auto& [from, to] : {std::pair{parent, slot}, std::pair{slot, parent}}) {
      const Links links = storage.links(from, 0);
      const std::size_t place = links.find(to);
      if (place == links.count) return false;
      links.store(place, protected_link(to));
    }
    return true;
  }

  // Fills the id table, the free list and the counts, and refuses what would lead out of the graph.
  Status wire(Index::Impl& x) {
    const Error wrong = damaged("has a graph that no index has");
    const Storage& storage = x.storage;
    const auto sound = [&](Slot slot, std::uint32_t level) {
      return slot < header_.slots && x.attached(slot) && storage.node(slot).level >= level;
    };
    std::vector<Slot> free;
    std::size_t tombstones = 0;
    std::size_t detached = 0;
    std::size_t live = 0;
    for (Slot slot = 0; slot < header_.slots; ++slot) {
      const State state = storage.state(slot);
      if (state == State::free) free.push_back(slot);
      if (state == State::tombstone || state == State::detached) ++tombstones;
      if (state == State::detached) ++detached;
      if (state == State::live) {
        ++live;
        if (x.table->put(slot) != no_slot) return wrong;
      }
      if (!x.attached(slot)) continue;
      const Slot parent = storage.parent(slot);
      if (parent != no_slot && !sound(parent, 0)) return wrong;
      for (std::uint32_t level = 0; level <= storage.node(slot).level; ++level) {
        const Links links = storage.links(slot, level);
        for (std::size_t i = 0; i < links.count; ++i) {
          if (links.word(i) != empty_word && !sound(links.word(i), level)) return wrong;
        }
      }
    }
    for (Slot slot = 0; slot < header_.slots; ++slot) {
      if (x.attached(slot) && !protect(storage, slot)) return wrong;
    }
    const Entry entry{header_.entry_slot, header_.entry_level};
    if (live != header_.live) return wrong;
    if (entry.empty() ? live != 0 : !sound(entry.slot, 0) || storage.node(entry.slot).level != entry.level)
      return wrong;
    x.storage.restore_free(free);
    x.live.store(live);
    x.tombstones.store(tombstones);
    x.detached.store(detached);
    x.set_entry(entry);
    x.tag = tag_;
    return {};
  }

  const Snapshot& snapshot_;
  Reader file_;
  snapshot::v2::Header header_{};
  std::size_t fields_ = snapshot::v2::header_fields; // bytes of the header before the fingerprint
  Config config_;
  Tag tag_;
};

} // namespace

Result<std::unique_ptr<Index::Impl>> load_v2(const Snapshot& snapshot) {
  Loader loader(snapshot);
  if (Status s = loader.header(); !s.ok()) return s.error();
  auto impl = std::make_unique<Index::Impl>(loader.config());
  if (Status s = impl->open(); !s.ok()) return s.error();
  if (Status s = loader.sections(*impl); !s.ok()) return s.error();
  return impl;
}

} // namespace embedcore::hnsw
