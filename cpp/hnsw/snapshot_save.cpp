// Saving: to a temporary file beside the target, synced, renamed over it, directory synced. A crash leaves
// the old file or the new one, never a mixture. Searches go on; writers wait.
//
// Where upkeep stands in the middle of a round, the file holds the graph as if the round had not begun: nodes
// that are leaving are tombstones again, links to moved ones lead to where those live now, and links to what
// has left already are left out.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "common/crc32c.h"
#include "hnsw/impl.h"
#include "hnsw/snapshot.h"

namespace embedcore::hnsw {

namespace {

Error failure(const std::string& what, const std::string& path) {
  const int number = errno;
  const Code code =
      number == ENOSPC || number == EDQUOT ? Code::resource_exhausted : Code::failed_precondition;
  return {code, "cannot " + what + " " + path + ": " + std::strerror(number)};
}

// A file under a temporary name, which takes its real name only in finish().
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string path) : path_(std::move(path)) {
    static std::atomic<unsigned> counter{0};
    temporary_ = path_ + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1));
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file_ < 0) status_ = failure("create", temporary_);
    buffer_.reserve(buffer_bytes);
  }
  ~TemporaryFile() {
    if (file_ >= 0) ::close(file_);
    if (!finished_ && !temporary_.empty()) ::unlink(temporary_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const void* data, std::size_t n) {
    const auto* bytes = static_cast<const std::byte*>(data);
    buffer_.insert(buffer_.end(), bytes, bytes + n);
    if (buffer_.size() >= buffer_bytes) flush();
  }
  void write_at_start(const void* data, std::size_t n) {
    flush();
    if (status_.ok() && ::pwrite(file_, data, n, 0) != static_cast<ssize_t>(n)) {
      status_ = failure("write", temporary_);
    }
  }
  Status finish() {
    flush();
    if (status_.ok() && ::fsync(file_) != 0) status_ = failure("sync", temporary_);
    if (!status_.ok()) return status_;
    if (::rename(temporary_.c_str(), path_.c_str()) != 0)
      return failure("rename " + temporary_ + " to", path_);
    finished_ = true;
    const std::filesystem::path parent = std::filesystem::path(path_).parent_path();
    const std::string directory = parent.empty() ? "." : parent.string();
    const int handle = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (handle < 0) return failure("open", directory);
    const bool synced = ::fsync(handle) == 0;
    ::close(handle);
    return synced ? Status{} : Status(failure("sync", directory));
  }

 private:
  static constexpr std::size_t buffer_bytes = std::size_t{1} << 20;

  void flush() {
    std::size_t done = 0;
    while (status_.ok() && done < buffer_.size()) {
      const ssize_t n = ::write(file_, buffer_.data() + done, buffer_.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) status_ = failure("write", temporary_);
      if (n > 0) done += static_cast<std::size_t>(n);
    }
    buffer_.clear();
  }

  std::string path_;
  std::string temporary_;
  int file_ = -1;
  bool finished_ = false;
  Status status_;
  std::vector<std::byte> buffer_;
};

// Writes a section and keeps its checksum.
class Section {
 public:
  explicit Section(TemporaryFile& file) : file_(file) {}
  void write(const void* data, std::size_t n) {
    crc_ = crc32c(data, n, crc_);
    file_.write(data, n);
  }
  [[nodiscard]] std::uint32_t crc() const { return crc_; }

 private:
  TemporaryFile& file_;
  std::uint32_t crc_ = 0;
};

// Cuts the vectors into chunks of 64 KiB, each with its checksum.
class VectorSection {
 public:
  explicit VectorSection(TemporaryFile& file) : file_(file) {}
  void write(const void* data, std::size_t n) {
    const auto* bytes = static_cast<const std::byte*>(data);
    file_.write(bytes, n);
    while (n != 0) {
      const std::size_t part = std::min(n, snapshot::vector_chunk - filled_);
      crc_ = crc32c(bytes, part, crc_);
      bytes += part;
      n -= part;
      filled_ += part;
      if (filled_ == snapshot::vector_chunk) close_chunk();
    }
  }
  std::uint32_t finish() {
    if (filled_ != 0) close_chunk();
    Section section(file_);
    section.write(checksums_.data(), checksums_.size() * sizeof(std::uint32_t));
    return section.crc();
  }

 private:
  void close_chunk() {
    checksums_.push_back(crc_);
    crc_ = 0;
    filled_ = 0;
  }

  TemporaryFile& file_;
  std::vector<std::uint32_t> checksums_;
  std::uint32_t crc_ = 0;
  std::size_t filled_ = 0;
};

void write_links(Section& section, const Storage& storage, Links links) {
  std::vector<Slot> written(links.count, no_slot);
  for (std::size_t i = 0; i < links.count; ++i) {
    Slot slot = links.load(i);
    if (slot != no_slot && storage.state(slot) == State::moved) {
      slot = storage.parent(slot);
      if (links.find(slot) != links.count) slot = no_slot;
    }
    if (slot != no_slot && in_graph(storage.state(slot))) written[i] = slot;
  }
  section.write(written.data(), written.size() * sizeof(Slot));
}

} // namespace

Status Index::save(const std::string& path) const {
  const Impl& x = *impl_;
  const Tag tag = this->tag();
  if (tag.fingerprint.size() > snapshot::most_fingerprint) {
    return {Code::invalid_argument, "the fingerprint has " + std::to_string(tag.fingerprint.size()) +
                                        " bytes; at most 65535 are kept"};
  }
  TemporaryFile file(path);
  const std::unique_lock alone(x.gate);
  const Slot end = x.storage.end();

  snapshot::Header header{};
  header.magic = snapshot::magic;
  header.version = snapshot::version;
  header.header_bytes = static_cast<std::uint32_t>(snapshot::header_bytes(tag.fingerprint.size()));
  header.dim = x.config.dim;
  header.metric = static_cast<std::uint8_t>(x.config.metric);
  header.dtype = static_cast<std::uint8_t>(x.config.dtype);
  header.codes = static_cast<std::uint8_t>(x.config.codes);
  header.stop_exponent = x.stop_exponent.load();
  header.m = x.config.m;
  header.ef_construction = x.config.ef_construction;
  header.seed = x.config.seed;
  header.watermark = tag.watermark;
  header.live = x.live.load();
  header.slots = end;
  header.entry_slot = x.entry().slot;
  header.entry_level = x.entry().level;
  header.fingerprint_bytes = static_cast<std::uint32_t>(tag.fingerprint.size());
  std::vector<char> first(header.header_bytes, '\0');
  file.write(first.data(), first.size());

  VectorSection vectors(file);
  const std::size_t row = x.storage.originals().bytes;
  const std::vector<std::byte> nothing(row);
  for (Slot slot = 0; slot < end; ++slot) {
    vectors.write(in_graph(x.storage.state(slot)) ? x.storage.original(slot) : nothing.data(), row);
  }
  header.vector_checksums_crc = vectors.finish();

  Section mean(file);
  if (x.coding != nullptr) {
    const CodecValues& values = x.coding->values();
    header.codes_step = values.step;
    header.codes_error = values.error;
    header.codes_high = values.high;
    header.codes_high_error = values.high_error;
    header.codes_trained_on = values.trained_on;
    mean.write(values.mean.data(), values.mean.size() * sizeof(float));
  }
  header.mean_crc = mean.crc();

  Section nodes(file);
  std::uint32_t runs = 0;
  for (Slot slot = 0; slot < end; ++slot) {
    snapshot::NodeRecord record{};
    record.parent = no_slot;
    const State state = x.storage.state(slot);
    if (in_graph(state)) {
      const Node& node = x.storage.node(slot);
      record = {node.id,
                node.level == 0 ? 0 : runs,
                x.storage.parent(slot),
                node.inverse_norm,
                static_cast<std::uint8_t>(is_leaving(state) ? State::tombstone : state),
                node.level,
                0};
      runs += node.level;
    } else if (state == State::detached) {
      record.state = static_cast<std::uint8_t>(state); // counts as a tombstone until it is compacted
    }
    nodes.write(&record, sizeof(record));
  }
  header.nodes_crc = nodes.crc();
  header.runs = runs;

  Section base(file);
  const std::vector<Slot> empty(2 * x.config.m, no_slot);
  for (Slot slot = 0; slot < end; ++slot) {
    if (in_graph(x.storage.state(slot))) {
      write_links(base, x.storage, x.storage.links(slot, 0));
    } else {
      base.write(empty.data(), empty.size() * sizeof(Slot));
    }
  }
  header.base_links_crc = base.crc();
  Section upper(file);
  for (Slot slot = 0; slot < end; ++slot) {
    if (!in_graph(x.storage.state(slot))) continue;
    for (std::uint32_t l = 1; l <= x.storage.node(slot).level; ++l)
      write_links(upper, x.storage, x.storage.links(slot, l));
  }
  header.upper_links_crc = upper.crc();

  header.file_bytes = snapshot::file_bytes(header);
  std::memcpy(first.data(), &header, snapshot::header_fields);
  std::memcpy(first.data() + snapshot::header_fields, tag.fingerprint.data(), tag.fingerprint.size());
  const std::uint32_t crc = crc32c(first.data(), first.size() - sizeof(crc));
  std::memcpy(first.data() + first.size() - sizeof(crc), &crc, sizeof(crc));
  file.write_at_start(first.data(), first.size());
  return file.finish();
}

} // namespace embedcore::hnsw
