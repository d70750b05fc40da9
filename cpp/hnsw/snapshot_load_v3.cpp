// Loading format versions 3 to 7: sections are mapped, or read chunk by chunk on all cores. Nodes and links
// are checked at once; vectors and codes too when they are read, and in the background when they are mapped.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/crc32c.h"
#include "hnsw/parallel.h"
#include "hnsw/snapshot.h"
#include "hnsw/snapshot_graph.h"
#include "hnsw/snapshot_load.h"
#include "hnsw/validate.h"

namespace embedcore::hnsw {

namespace {

bool all_zero(const void* data, std::size_t n) {
  const auto* bytes = static_cast<const char*>(data);
  return std::all_of(bytes, bytes + n, [](char byte) { return byte == 0; });
}

constexpr Slot blocks_ahead = 16; // asked for from memory
constexpr Slot cells_ahead = 16;
constexpr Slot filled_at_once = 8192;

class Loader {
 public:
  Loader(Snapshot snapshot, bool mapped) : snapshot_(std::move(snapshot)), mapped_(mapped) {}

  Result<std::unique_ptr<Index::Impl>> run() {
    if (Status s = header(); !s.ok()) return s.error();
    const snapshot::Layout layout(header_);
    if (layout.file_bytes != snapshot_.size || header_.file_bytes != snapshot_.size) {
      return damaged(snapshot_, "has " + std::to_string(snapshot_.size) + " bytes, its header says " +
                                    std::to_string(header_.file_bytes));
    }
    if (Status s = checksums(layout); !s.ok()) return s.error();
    auto impl = std::make_unique<Index::Impl>(config_);
    if (Status s = impl->open(); !s.ok()) return s.error();
    if (Status s = sections(*impl, layout); !s.ok()) return s.error();
    CodecValues codes;
    if (Status s = mean(layout, *impl, codes); !s.ok()) return s.error();
    if (Status s = graph(*impl, layout); !s.ok()) return s.error();
    if (codes.trained_on != 0)
      impl->use(std::make_unique<const Codec>(config_, *impl->kernels, std::move(codes)));
    impl->stop_exponent.store(header_.stop_exponent);
    impl->stop_floor.store(header_.stop_floor);
    impl->calibrated_on.store(header_.live);
    impl->tag = std::move(tag_);
    if (mapped_) {
      std::vector<Verification::Work> later;
      for (const snapshot::Part part : {snapshot::blocks, snapshot::originals}) {
        const snapshot::Section& section = layout.sections[part];
        const auto first = checksums_.begin() + static_cast<std::ptrdiff_t>(section.first);
        later.push_back({snapshot::part_names[part],
                         section,
                         {first, first + static_cast<std::ptrdiff_t>(section.chunks())}});
      }
      impl->verification =
          std::make_unique<const Verification>(snapshot_.path, std::move(snapshot_.file), std::move(later));
    }
    return impl;
  }

 private:
  Status header() {
    std::vector<char> bytes(16);
    if (!snapshot_.file.read(0, bytes.data(), bytes.size())) return damaged(snapshot_, "cannot be read");
    std::memcpy(&header_, bytes.data(), bytes.size());
    bytes.resize(header_.header_bytes); // checked by whoever asked for the version
    if (!snapshot_.file.read(0, bytes.data(), bytes.size())) return damaged(snapshot_, "cannot be read");
    const std::size_t fields = snapshot::header_fields(header_.version);
    std::memcpy(&header_, bytes.data(), fields);
    const snapshot::Header& h = header_;
    const auto is_plain = [](float value) { return value >= 0 && std::isfinite(value); };
    const bool trained = h.codes_trained_on != 0;
    if (h.metric > 2 || h.dtype > 3 || h.codes > 2 || h.zero != 0 || !limits_fit(h) ||
        !(is_plain(h.stop_exponent) && h.stop_exponent < 16) || !is_plain(h.stop_floor) ||
        h.slots >= no_slot / 2 || h.runs >= no_slot || h.fingerprint_bytes > snapshot::most_fingerprint ||
        h.header_bytes != snapshot::header_bytes(h.version, h.fingerprint_bytes) ||
        (trained ? h.codes == 0 || !(h.codes_step > 0)
                 : h.codes_step != 0 || h.codes_error != 0 || h.codes_high != 0 || h.codes_high_error != 0) ||
        (h.version > snapshot::version_of_bytes && !(trained && h.codes == 1 && h.codes_most == 63)) ||
        !is_plain(h.codes_step) || !is_plain(h.codes_error) || !is_plain(h.codes_high) ||
        !is_plain(h.codes_high_error))
      return damaged(snapshot_, "has a header that no index has");
    const std::size_t used = fields + h.fingerprint_bytes;
    if (!all_zero(bytes.data() + used, bytes.size() - used - 4))
      return damaged(snapshot_, "has padding that is not zero");
    tag_.fingerprint.assign(bytes.data() + fields, h.fingerprint_bytes);
    tag_.watermark = h.watermark;
    config_.dim = h.dim;
    config_.metric = static_cast<Metric>(h.metric);
    config_.dtype = static_cast<Dtype>(h.dtype);
    config_.codes = static_cast<Codes>(h.codes);
    config_.m = h.m;
    config_.ef_construction = h.ef_construction;
    config_.seed = h.seed;
    config_.capacity = h.slots;
    if (!check_config(config_).ok() || settled_codes(config_) != config_.codes)
      return damaged(snapshot_, "has a header that no index has");
    const Storage::Shape shape = Storage::shape(config_);
    if (h.block_bytes != shape.block_bytes ||
        h.original_bytes != (config_.codes == Codes::none ? 0 : shape.original_bytes))
      return damaged(snapshot_, "has a header that no index has");
    return {};
  }

  Status checksums(const snapshot::Layout& layout) {
    checksums_.resize(layout.checksums.bytes / sizeof(std::uint32_t));
    if (!snapshot_.file.read(layout.checksums.at, checksums_.data(), layout.checksums.bytes))
      return damaged(snapshot_, "cannot be read to its end");
    if (crc32c(checksums_.data(), layout.checksums.bytes) != header_.checksums_crc)
      return damaged(snapshot_, "has damaged checksums");
    const std::size_t used = layout.checksums.used / sizeof(std::uint32_t);
    if (!all_zero(checksums_.data() + used, (checksums_.size() - used) * sizeof(std::uint32_t)))
      return damaged(snapshot_, "has padding that is not zero");
    checksums_.resize(used);
    return {};
  }

  // Where a section goes in memory.
  static std::byte* place(const Storage& storage, snapshot::Part part) {
    switch (part) {
      case snapshot::nodes:
        return reinterpret_cast<std::byte*>(storage.nodes());
      case snapshot::upper:
        return reinterpret_cast<std::byte*>(storage.upper_links());
      case snapshot::blocks:
        return storage.block(0);
      default:
        return storage.original(0);
    }
  }

  Status sections(Index::Impl& x, const snapshot::Layout& layout) {
    const auto end = static_cast<Slot>(header_.slots);
    const auto runs = static_cast<std::uint32_t>(header_.runs);
    if (!mapped_) {
      if (Status s = x.storage.restore(end, runs); !s.ok()) return s;
      for (const auto part : {snapshot::nodes, snapshot::upper, snapshot::blocks, snapshot::originals}) {
        if (Status s = each_chunk(x.storage, layout, part); !s.ok()) return s;
      }
      return {};
    }
    const auto range = [&layout](snapshot::Part part) {
      return Storage::Mapped::Range{layout.sections[part].at, layout.sections[part].bytes};
    };
    const Storage::Mapped mapped{snapshot_.file.handle(), range(snapshot::nodes), range(snapshot::upper),
                                 range(snapshot::blocks), range(snapshot::originals)};
    if (Status s = x.storage.restore(end, runs, mapped); !s.ok()) return s;
    for (const auto part : {snapshot::nodes, snapshot::upper}) {
      if (Status s = each_chunk(x.storage, layout, part); !s.ok()) return s;
    }
    return {};
  }

  // Reads (or finds mapped) and checks the chunks of a section, on all cores.
  Status each_chunk(const Storage& storage, const snapshot::Layout& layout, snapshot::Part part) const {
    const snapshot::Section& section = layout.sections[part];
    std::atomic<std::uint64_t> next{0};
    std::atomic<std::uint64_t> bad{section.chunks()};
    run_workers(workers_for(0, section.chunks() / 16), [&](unsigned) {
      std::vector<std::byte> buffer;
      for (;;) {
        const std::uint64_t number = next.fetch_add(1, std::memory_order_relaxed);
        if (number >= section.chunks() || bad.load(std::memory_order_relaxed) != section.chunks()) return;
        std::byte* to = place(storage, part) + number * snapshot::chunk;
        const std::size_t bytes = chunk_bytes(section, number);
        const std::uint64_t left = section.used - number * snapshot::chunk;
        const std::byte* have = to;
        bool sound = true;
        if (!mapped_) {
          // Memory ends with what is used; padding is looked at elsewhere.
          buffer.resize(left < bytes ? bytes : 0);
          have = left < bytes ? buffer.data() : to;
          sound = snapshot_.file.read(section.at + number * snapshot::chunk,
                                      left < bytes ? buffer.data() : to, bytes);
          if (sound && left < bytes) std::memcpy(to, have, left);
        }
        if (!sound || !chunk_damage(section, number, have, checksums_[section.first + number]).empty())
          bad.store(number, std::memory_order_relaxed);
      }
    });
    if (bad.load() == section.chunks()) return {};
    return damaged(snapshot_, "has damage in chunk " + std::to_string(bad.load()) + " of its " +
                                  snapshot::part_names[part]);
  }

  // Versions 4 and 5 have limits, later ones may have them, and only an index whose walks read floats has
  // any.
  static bool limits_fit(const snapshot::Header& h) {
    if (h.version == snapshot::version_without_limits) return h.part_limits == 0;
    if (h.version >= snapshot::version_of_bytes && h.part_limits == 0) return true;
    return h.codes == 0 && h.dtype != static_cast<std::uint8_t>(Dtype::int8) && h.part_limits != 0 &&
           h.part_limits == Glance::count(h.dim);
  }

  Status limits(const std::byte* at, Index::Impl& impl) const {
    Glance::Limits limits{};
    std::memcpy(limits.data(), at, header_.part_limits * sizeof(PartLimit));
    bool finite = true;
    for (const PartLimit& l : limits) {
      for (const float x : {l.shift, l.own, l.least, l.most, l.floor}) finite = finite && std::isfinite(x);
      if (!(l.slope >= 0 && std::isfinite(l.slope) && finite))
        return damaged(snapshot_, "has limits that no index has");
    }
    impl.glance.set(limits);
    return {};
  }

  Status mean(const snapshot::Layout& layout, Index::Impl& impl, CodecValues& codes) const {
    if (header_.codes_trained_on == 0 && header_.part_limits == 0) return {};
    const snapshot::Section& section = layout.sections[snapshot::mean];
    std::vector<std::byte> bytes(section.bytes);
    if (!snapshot_.file.read(section.at, bytes.data(), bytes.size()))
      return damaged(snapshot_, "cannot be read to its end");
    for (std::uint64_t number = 0; number < section.chunks(); ++number) {
      const std::byte* at = bytes.data() + number * snapshot::chunk;
      if (!chunk_damage(section, number, at, checksums_[section.first + number]).empty())
        return damaged(snapshot_, "has a damaged mean");
    }
    if (header_.version == snapshot::version_without_floors) return {}; // searches sum rows whole
    if (header_.part_limits != 0) return limits(bytes.data(), impl);
    codes.mean.resize(header_.dim);
    std::memcpy(codes.mean.data(), bytes.data(), section.used);
    if (!std::all_of(codes.mean.begin(), codes.mean.end(), [](float x) { return std::isfinite(x); }))
      return damaged(snapshot_, "has a mean that no index has");
    codes.step = header_.codes_step;
    codes.error = header_.codes_error;
    codes.high = header_.codes_high;
    codes.high_error = header_.codes_high_error;
    codes.trained_on = header_.codes_trained_on;
    if (header_.version > snapshot::version_of_bytes) codes.most = static_cast<int>(header_.codes_most);
    return {};
  }

  Status graph(Index::Impl& x, const snapshot::Layout& layout) const {
    const Error wrong = damaged(snapshot_, "has a graph that no index has");
    SnapshotGraph graph(x, header_);
    if (!graph.nodes()) return wrong;
    // The id table is filled by one thread, while others look at links.
    const std::uint64_t groups = layout.link_checksums;
    std::atomic<std::uint64_t> next{0};
    std::atomic<bool> sound{true};
    std::atomic<bool> intact{true};
    run_workers(workers_for(0, 1 + groups / 8), [&](unsigned) {
      for (;;) {
        const std::uint64_t number = next.fetch_add(1, std::memory_order_relaxed);
        if (number > groups || !sound.load(std::memory_order_relaxed)) return;
        if (number == 0) {
          if (!fill_table(x)) sound.store(false, std::memory_order_relaxed);
          continue;
        }
        const auto from = static_cast<Slot>((number - 1) * snapshot::link_group);
        const auto to =
            static_cast<Slot>(std::min<std::uint64_t>(from + snapshot::link_group, header_.slots));
        if (links_crc(x.storage, from, to) != checksums_[layout.first_link_checksum + number - 1]) {
          intact.store(false, std::memory_order_relaxed);
          sound.store(false, std::memory_order_relaxed);
        } else if (!graph.links(from, to)) {
          sound.store(false, std::memory_order_relaxed);
        }
      }
    });
    if (!intact.load()) return damaged(snapshot_, "has damaged links");
    if (!sound.load() || !graph.tree()) return wrong;
    graph.adopt();
    return {};
  }

  static std::uint32_t links_crc(const Storage& storage, Slot from, Slot to) {
    const std::size_t bytes = storage.link_places() * sizeof(Word);
    std::uint32_t crc = 0;
    for (Slot slot = from; slot < to; ++slot) {
      // Links are a small part of every block: no processor guesses where the next ones lie.
      const std::byte* ahead = storage.block(slot + blocks_ahead < to ? slot + blocks_ahead : slot);
      for (std::size_t at = 0; at < bytes; at += 64) __builtin_prefetch(ahead + at, 0, 2);
      crc = crc32c(storage.block(slot), bytes, crc);
    }
    return crc;
  }

  // On all cores. False: an id is there twice.
  bool fill_table(Index::Impl& x) const {
    const auto slots = static_cast<Slot>(header_.slots);
    x.table = std::make_unique<IdTable>(IdHost{&x.storage, &x.epochs}, std::max<std::size_t>(slots, 1));
    std::atomic<Slot> next{0};
    std::atomic<bool> twice{false};
    run_workers(workers_for(0, slots / filled_at_once + 1), [&](unsigned) {
      for (;;) {
        const Slot from = next.fetch_add(filled_at_once, std::memory_order_relaxed);
        if (from >= slots) return;
        const Slot to = std::min(from + filled_at_once, slots);
        for (Slot slot = from; slot < to; ++slot) {
          if (slot + cells_ahead < to) x.table->ask_for(x.storage.node(slot + cells_ahead).id);
          if (x.storage.state(slot) == State::live && x.table->put(slot) != no_slot)
            twice.store(true, std::memory_order_relaxed);
        }
      }
    });
    return !twice.load();
  }

  Snapshot snapshot_;
  const bool mapped_;
  snapshot::Header header_{};
  Config config_;
  Tag tag_;
  std::vector<std::uint32_t> checksums_;
};

} // namespace

Result<std::unique_ptr<Index::Impl>> load_v3(Snapshot snapshot, bool mapped) {
  return Loader(std::move(snapshot), mapped).run();
}

} // namespace embedcore::hnsw
