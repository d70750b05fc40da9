// Saving: the graph of one moment, copied out while searches and writes go on (snapshot_capture.h), to a
// temporary file beside the target (snapshot_file.h).
#include <algorithm>
#include <cstring>

#include "common/crc32c.h"
#include "hnsw/impl.h"
#include "hnsw/snapshot.h"
#include "hnsw/snapshot_capture.h"
#include "hnsw/snapshot_file.h"

namespace embedcore::hnsw {

namespace {

// Writes one section after the other, cuts each into chunks and keeps their checksums.
class SectionWriter {
 public:
  explicit SectionWriter(TemporaryFile& file) : file_(file) {}

  void write(const void* data, std::size_t n) {
    const auto* bytes = static_cast<const std::byte*>(data);
    file_.write(bytes, n);
    written_ += n;
    while (n != 0) {
      const std::size_t part = std::min(n, snapshot::chunk - filled_);
      crc_ = crc32c(bytes, part, crc_);
      bytes += part;
      n -= part;
      filled_ += part;
      if (filled_ == snapshot::chunk) close_chunk();
    }
  }
  // Zeros up to the next page; the next section begins there.
  void finish() {
    const std::vector<std::byte> zeros(snapshot::whole_pages(written_) - written_);
    write(zeros.data(), zeros.size());
    if (filled_ != 0) close_chunk();
    written_ = 0;
  }
  void note(std::uint32_t crc) { checksums_.push_back(crc); }
  [[nodiscard]] std::vector<std::uint32_t>& checksums() { return checksums_; }

 private:
  void close_chunk() {
    checksums_.push_back(crc_);
    crc_ = 0;
    filled_ = 0;
  }

  TemporaryFile& file_;
  std::vector<std::uint32_t> checksums_;
  std::uint64_t written_ = 0; // of this section
  std::size_t filled_ = 0;    // of this chunk
  std::uint32_t crc_ = 0;
};

class Saver {
 public:
  Saver(const Index::Impl& index, const Capture& moment, TemporaryFile& file)
      : x_(index), file_(file), out_(file), moment_(moment) {}

  void write(const Tag& tag) {
    const Slot end = moment_.end();
    header_.magic = snapshot::magic;
    // The oldest that has all that is to be kept.
    header_.version = moment_.codes().most != 127      ? snapshot::version
                      : moment_.stop_floor() != 0      ? snapshot::version_of_bytes
                      : !moment_.part_limits().empty() ? snapshot::version_without_stop_floor
                                                       : snapshot::version_without_limits;
    header_.header_bytes =
        static_cast<std::uint32_t>(snapshot::header_bytes(header_.version, tag.fingerprint.size()));
    describe(tag);
    std::vector<char> first(header_.header_bytes, '\0');
    file_.write(first.data(), first.size());

    for (Slot slot = 0; slot < end && file_.status().ok(); ++slot) node(slot);
    header_.runs = runs_;
    out_.finish();
    for (Slot slot = 0; slot < end && file_.status().ok(); ++slot) upper(slot);
    out_.finish();
    for (Slot slot = 0; slot < end && file_.status().ok(); ++slot) block(slot);
    if (end % snapshot::link_group != 0) link_checksums_.push_back(group_crc_);
    out_.finish();
    if (header_.original_bytes != 0) {
      const std::vector<std::byte> nothing(header_.original_bytes);
      for (Slot slot = 0; slot < end && file_.status().ok(); ++slot)
        out_.write(moment_.holds(slot) ? x_.storage.original(slot) : nothing.data(), nothing.size());
    }
    out_.finish();
    if (moment_.coded()) out_.write(moment_.codes().mean.data(), x_.config.dim * sizeof(float));
    out_.write(moment_.part_limits().data(), moment_.part_limits().size() * sizeof(PartLimit));
    out_.finish();
    checksums();
    header_.file_bytes = snapshot::Layout(header_).file_bytes;
    finish_header(first, tag);
  }

 private:
  void describe(const Tag& tag) {
    header_.dim = x_.config.dim;
    header_.metric = static_cast<std::uint8_t>(x_.config.metric);
    header_.dtype = static_cast<std::uint8_t>(x_.config.dtype);
    header_.codes = static_cast<std::uint8_t>(x_.config.codes);
    header_.m = x_.config.m;
    header_.ef_construction = x_.config.ef_construction;
    header_.seed = x_.config.seed;
    header_.watermark = tag.watermark;
    header_.slots = moment_.end();
    header_.entry_slot = moment_.entry().slot;
    header_.entry_level = moment_.entry().level;
    header_.block_bytes = static_cast<std::uint32_t>(x_.storage.block_bytes());
    header_.original_bytes =
        x_.config.codes == Codes::none ? 0 : static_cast<std::uint32_t>(x_.storage.originals().bytes);
    header_.fingerprint_bytes = static_cast<std::uint32_t>(tag.fingerprint.size());
    header_.stop_exponent = moment_.stop_exponent();
    header_.stop_floor = moment_.stop_floor();
    header_.part_limits = static_cast<std::uint32_t>(moment_.part_limits().size());
    const CodecValues& codes = moment_.codes();
    header_.codes_trained_on = codes.trained_on;
    header_.codes_step = codes.step;
    header_.codes_error = codes.error;
    header_.codes_high = codes.high;
    header_.codes_high_error = codes.high_error;
    header_.codes_most = static_cast<std::uint32_t>(codes.most);
  }

  void node(Slot slot) {
    snapshot::NodeRecord record{};
    const State state = moment_.state(slot);
    record.state = static_cast<std::uint8_t>(state);
    record.parent = no_slot;
    if (moment_.holds(slot)) {
      const Node& node = x_.storage.node(slot);
      record.id = node.id;
      record.upper = node.level == 0 ? 0 : runs_;
      record.parent = moment_.parent(slot);
      record.inverse_norm = node.inverse_norm;
      record.level = node.level;
      runs_ += node.level;
      header_.live += state == State::live ? 1u : 0u;
    }
    out_.write(&record, sizeof(record));
  }

  void upper(Slot slot) {
    if (!moment_.holds(slot)) return;
    words_.resize(x_.config.m);
    for (std::uint32_t level = 1; level <= x_.storage.node(slot).level; ++level) {
      moment_.links(slot, level, words_);
      out_.write(words_.data(), words_.size() * sizeof(Word));
    }
  }

  void block(Slot slot) {
    const Storage::Rows rows = x_.storage.rows();
    block_.assign(x_.storage.block_bytes(), std::byte{0});
    const std::size_t places = x_.storage.link_places();
    words_.assign(places, empty_word);
    if (moment_.holds(slot)) {
      moment_.links(slot, 0, std::span(words_).first(std::size_t{2} * x_.config.m));
      // Before training there is nothing in the place of the codes.
      const bool filled = x_.config.codes == Codes::none || moment_.coded();
      if (filled) std::memcpy(block_.data() + places * sizeof(Word), x_.storage.row(slot), rows.bytes);
    }
    std::memcpy(block_.data(), words_.data(), places * sizeof(Word));
    group_crc_ = crc32c(block_.data(), places * sizeof(Word), group_crc_);
    if ((slot + 1) % snapshot::link_group == 0) link_checksums_.push_back(std::exchange(group_crc_, 0));
    out_.write(block_.data(), block_.size());
  }

  void checksums() {
    auto all = std::move(out_.checksums());
    all.insert(all.end(), link_checksums_.begin(), link_checksums_.end());
    all.resize(snapshot::whole_pages(all.size() * sizeof(std::uint32_t)) / sizeof(std::uint32_t));
    file_.write(all.data(), all.size() * sizeof(std::uint32_t));
    header_.checksums_crc = crc32c(all.data(), all.size() * sizeof(std::uint32_t));
  }

  void finish_header(std::vector<char>& first, const Tag& tag) {
    const std::size_t fields = snapshot::header_fields(header_.version);
    std::memcpy(first.data(), &header_, fields);
    std::memcpy(first.data() + fields, tag.fingerprint.data(), tag.fingerprint.size());
    const std::uint32_t crc = crc32c(first.data(), first.size() - sizeof(crc));
    std::memcpy(first.data() + first.size() - sizeof(crc), &crc, sizeof(crc));
    file_.write_at_start(first.data(), first.size());
  }

  const Index::Impl& x_;
  TemporaryFile& file_;
  SectionWriter out_;
  const Capture& moment_;
  snapshot::Header header_{};
  std::uint32_t runs_ = 0;
  std::vector<Word> words_;
  std::vector<std::byte> block_;
  std::vector<std::uint32_t> link_checksums_;
  std::uint32_t group_crc_ = 0;
};

} // namespace

Status write_snapshot(const Index::Impl& index, const Capture& moment, const Tag& tag,
                      const std::string& path) {
  TemporaryFile file(path);
  if (!file.status().ok()) return file.status();
  Saver(index, moment, file).write(tag);
  return file.finish();
}

Status Index::save(const std::string& path, const std::optional<Tag>& tag) const {
  const Tag kept = tag ? *tag : this->tag();
  if (kept.fingerprint.size() > snapshot::most_fingerprint) {
    return {Code::invalid_argument, "the fingerprint has " + std::to_string(kept.fingerprint.size()) +
                                        " bytes; at most 65535 are kept"};
  }
  // What was mapped and not yet verified would be written with checksums that hold, damage included.
  if (Status s = wait_verified(); !s.ok()) return s;
  return write_snapshot(*impl_, Capture(*impl_), kept, path);
}

} // namespace embedcore::hnsw
